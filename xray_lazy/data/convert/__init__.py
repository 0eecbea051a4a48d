"""Other formats to COCO: Pascal VOC, YOLO, labelme, CVAT and Label Studio.

Shapes are translated, not corrected: `xray_lazy.data.check` tells which of them are empty or leave their image.
"""

from xray_lazy.data.convert.conversion import FORMATS, Conversion, convert

__all__ = ["FORMATS", "Conversion", "convert"]
