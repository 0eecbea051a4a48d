"""COCO to the formats of labelling programs, and of those that train on them; `xray_lazy.data.convert` reads them back.

Small writers of our own: supervision has none for CVAT and Label Studio, datumaro requires an older OpenCV and Pillow,
and Label Studio's SDK brings 24 packages.
"""

from xray_lazy.data.label_export.exporting import (
    Exported,
    export_labels,
    require_class_names,
    require_free,
    write_labels,
)
from xray_lazy.data.label_export.writers import LABEL_WRITERS, Writer

__all__ = [
    "LABEL_WRITERS",
    "Exported",
    "Writer",
    "export_labels",
    "require_class_names",
    "require_free",
    "write_labels",
]
