"""COCO to the formats of labelling programs, and of those that train on them; `xray_lazy.data.convert` reads them back.

Small writers of our own: supervision and pylabel know no crowds, masks of several parts or scores; datumaro, whose COCO
and CVAT are right, and fiftyone bring dozens of packages, and none of them writes Label Studio's predictions.
"""

from xray_lazy.data.label_export.exporting import Exported, export_labels, require_free, write_labels
from xray_lazy.data.label_export.writers import LABEL_WRITERS, Writer

__all__ = ["LABEL_WRITERS", "Exported", "Writer", "export_labels", "require_free", "write_labels"]
