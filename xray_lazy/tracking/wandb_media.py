"""Media as W&B shows them: overlays that can be switched on and off, charts, a table of images.

This module imports wandb, which training can do without: import it where a W&B run is open.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import wandb
from pycocotools import mask as mask_util
from wandb.data_types import BoundingBoxes2D, ImageMask

from xray_lazy.data.image_detections import Drawn
from xray_lazy.tracking.media import (
    ComparedImage,
    ConfusionMatrix,
    Images,
    Media,
    PrecisionRecall,
    RateCurve,
    WorstImages,
)

RECALL_STEP = 2  # of COCO's 101 recalls every second one is plenty for a chart
MOST_MASK_CLASSES = 127  # W&B stores a mask's class in a signed byte
PADDING = 40  # grey value beside smaller images


def log_media(run: Any, media: Mapping[str, Media], axes: Mapping[str, float]) -> None:
    """Log media as one row of a run, with their place on each axis."""
    with _staging_in(Path(run.dir).parent):
        run.log({**wandb_values(media), **axes})


@contextmanager
def _staging_in(folder: Path) -> Iterator[None]:
    """Let W&B keep what it copies of a table's images in the run's own folder, not in the home folder.

    There it would stay for ever where the run is recorded offline.
    """
    if "WANDB_DATA_DIR" in os.environ:
        yield
        return
    os.environ["WANDB_DATA_DIR"] = str(folder)
    try:
        yield
    finally:
        del os.environ["WANDB_DATA_DIR"]


def wandb_values(media: Mapping[str, Media]) -> dict[str, Any]:
    """What `wandb.log` takes, by name; what has nothing to show is left out."""
    values = {name: _value(item, name) for name, item in media.items()}
    return {name: value for name, value in values.items() if value is not None}


def _value(media: Media, name: str) -> Any:
    match media:
        case Images():
            return _panel(media.images)
        case WorstImages():
            return _table(media)
        case ConfusionMatrix():
            return _confusion_chart(media, name)
        case PrecisionRecall():
            return _precision_recall_chart(media, name)
        case RateCurve():
            return _rate_chart(media, name)
    raise TypeError(f"W&B has no form for {type(media).__name__}")


def _panel(images: Sequence[ComparedImage]) -> list[wandb.Image] | None:
    """Images of one panel, where W&B shows all of them at the size of the first, so that they need equal sizes."""
    if not images:
        return None
    height, width = (max(shown.image.shape[axis] for shown in images) for axis in (0, 1))
    first, *others = images
    return [
        _image(first, (height, width)),
        *(_image(shown, (height, width), _KnownBoxes, _KnownMask) for shown in others),
    ]


class _KnownBoxes(BoundingBoxes2D):
    """Boxes of classes that W&B has been told; it would send its whole config again for each of them."""

    def bind_to_run(self, *args: Any, **options: Any) -> None:
        super(BoundingBoxes2D, self).bind_to_run(*args, **options)


class _KnownMask(ImageMask):
    """A mask of classes that W&B has been told, as `_KnownBoxes`."""

    def bind_to_run(self, *args: Any, **options: Any) -> None:
        super(ImageMask, self).bind_to_run(*args, **options)


def _image(
    shown: ComparedImage,
    size: tuple[int, int],
    boxes_type: type[BoundingBoxes2D] = BoundingBoxes2D,
    mask_type: type[ImageMask] = ImageMask,
) -> wandb.Image:
    """An image with its overlays in the upper left corner of a canvas of `size` (height, width)."""
    missing = [(0, whole - part) for whole, part in zip(size, shown.image.shape[:2], strict=True)]
    labels = dict(enumerate(shown.class_names, 1))  # 0 is the background of masks
    sides = {"ground_truth": shown.truth, "predictions": shown.detections}
    has_masks = any(item.mask is not None for item in (*shown.truth, *shown.detections))
    boxes, masks = {}, {}
    for side, items in sides.items():
        box_data = [_box(item, shown.class_names, size) for item in items]
        boxes[side] = boxes_type({"box_data": box_data, "class_labels": labels}, side)
        if has_masks and len(labels) <= MOST_MASK_CLASSES:
            class_map = np.pad(_class_map(items, shown.image.shape[:2]), missing)
            masks[side] = mask_type({"mask_data": class_map, "class_labels": labels}, side)
    return wandb.Image(
        np.pad(shown.image, [*missing, (0, 0)], constant_values=PADDING),
        caption=shown.file_name,
        classes=[{"id": number, "name": name} for number, name in labels.items()],
        boxes=boxes,
        masks=masks or None,
        file_type="jpg",
    )


def _box(item: Drawn, class_names: Sequence[str], size: tuple[int, int]) -> dict[str, Any]:
    height, width = size
    # in parts of the image's size
    x0, y0, x1, y1 = (round(float(value), 4) for value in np.clip(np.divide(item.box, (width, height) * 2), 0, 1))
    name = f"{class_names[item.class_id]} crowd" if item.is_crowd else class_names[item.class_id]
    box = {
        "position": {"minX": x0, "minY": y0, "maxX": x1, "maxY": y1},
        "class_id": item.class_id + 1,
        "box_caption": name if item.score is None else f"{name} {item.score:.2f}",
    }
    return box if item.score is None else {**box, "scores": {"score": round(item.score, 4)}}


def _class_map(items: Sequence[Drawn], size: tuple[int, int]) -> np.ndarray:
    """The class of each pixel, 0 for none; small items lie on large ones."""
    classes = np.zeros(size, np.uint8)
    masked = [item for item in items if item.mask is not None]
    for item in sorted(masked, key=lambda item: -int(mask_util.area(item.mask))):
        classes[mask_util.decode(item.mask).astype(bool)] = item.class_id + 1
    return classes


def _table(worst: WorstImages) -> wandb.Table | None:
    if not worst.images:
        return None
    table = wandb.Table(columns=["file", "picture", "found", "missed", "false"])
    for shown, *counts in zip(worst.images, worst.found, worst.missed, worst.false, strict=True):
        table.add_data(shown.file_name, _image(shown, shown.image.shape[:2]), *counts)
    return table


def _confusion_chart(confusion: ConfusionMatrix, title: str) -> Any:
    names, counts = confusion.names, confusion.counts.tolist()
    cells = [
        [truth, detected, counts[row][column]]
        for row, truth in enumerate(names)
        for column, detected in enumerate(names)
    ]
    return wandb.plot_table(
        "wandb/confusion_matrix/v1",
        wandb.Table(columns=["Actual", "Predicted", "nPredictions"], data=cells),
        fields={name: name for name in ("Actual", "Predicted", "nPredictions")},
        string_fields={"title": title},
    )


def _precision_recall_chart(curves: PrecisionRecall, title: str) -> Any:
    points = []
    for name, precisions in curves.precisions.items():
        for values in list(zip(curves.recalls, precisions, curves.scores[name], strict=True))[::RECALL_STEP]:
            points.append([name, *(round(float(value), 4) for value in values)])
    if not points:
        return None
    return wandb.plot_table(
        "wandb/area-under-curve/v0",
        wandb.Table(columns=["class", "recall", "precision", "score"], data=points),
        fields={"x": "recall", "y": "precision", "class": "class"},
        string_fields={"title": title, "x-axis-title": "Recall", "y-axis-title": "Precision at IoU 0.5"},
    )


def _rate_chart(curve: RateCurve, title: str) -> Any:
    points = [["all", float(x), float(y)] for x, y in zip(curve.x, curve.y, strict=True)]
    return wandb.plot_table(
        "wandb/area-under-curve/v0",
        wandb.Table(columns=["class", "x", "y"], data=points),
        fields={"x": "x", "y": "y", "class": "class"},
        string_fields={"title": title, "x-axis-title": curve.names[0], "y-axis-title": curve.names[1]},
    )
