"""Media of two small X-ray-like images, as an evaluation would give them."""

import numpy as np
from pycocotools import mask as mask_util

from xray_lazy.data.image_detections import Drawn
from xray_lazy.tracking.media import (
    ComparedImage,
    ConfusionMatrix,
    Images,
    PrecisionRecall,
    RateCurve,
    WorstImages,
)

CLASSES = ("gun", "knife")


def masked(box, size, **options) -> Drawn:
    """An item whose mask fills its box."""
    x0, y0, x1, y1 = box
    mask = np.zeros(size, np.uint8, order="F")
    mask[y0:y1, x0:x1] = 1
    return Drawn(box=box, mask=mask_util.encode(mask), **options)


def drawn(shade: int):
    return lambda: np.full((30, 90, 3), shade, np.uint8)


def shown_image(name: str, size=(40, 60), shade=200) -> ComparedImage:
    """A gun with a knife on it, of which a model has found the gun."""
    return ComparedImage(
        image=np.full((*size, 3), shade, np.uint8),
        file_name=name,
        truth=[masked((12, 10, 36, 30), size, class_id=0), masked((14, 12, 20, 18), size, class_id=1)],
        detections=[masked((12, 10, 30, 30), size, class_id=0, score=0.875)],
        class_names=CLASSES,
        drawn=drawn(shade),
    )


def shown_media() -> dict:
    """All kinds of media by name."""
    first, second = shown_image("bag_1.png"), shown_image("bag_2.png", size=(30, 80), shade=100)
    recalls = np.linspace(0, 1, 101)
    return {
        "media/pictures": Images([first, second]),
        "media/worst_pictures": WorstImages([second], found=[1], missed=[1], false=[0]),
        "media/confusion_matrix": ConfusionMatrix(
            np.array([[3, 1, 0], [0, 2, 4], [5, 0, 0]]), (*CLASSES, "background"), drawn(50)
        ),
        "media/precision_recall": PrecisionRecall(
            recalls,
            precisions={"gun": np.where(recalls <= 0.5, 1.0, 0.0)},
            scores={"gun": np.where(recalls <= 0.25, 0.9, np.where(recalls <= 0.5, 0.4, 0.0))},
            instances={"gun": 8},
        ),
        "media/screening_roc": RateCurve(np.array([0, 50, 100]), np.array([40, 60, 80]), ("x", "y"), drawn(60)),
    }
