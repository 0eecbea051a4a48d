"""The detections of an image as arrays, which are kept and sent, and one instance as it is drawn."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from pycocotools import mask as mask_util

if TYPE_CHECKING:
    from detectron2.structures import Instances

    from xray_lazy.data.masks.mask_encoding import EncodedMasks


@dataclass(frozen=True)
class Drawn:
    """One annotation or detection, to be drawn.

    box is xyxy in pixels; mask is a bool or uint8 array (H, W), polygons, RLE, or None, where the box is drawn.
    label means the class's name and score, an empty one none; what is quiet has a thin grey outline alone.
    """

    class_id: int
    box: tuple[float, float, float, float]
    score: float | None = None
    mask: np.ndarray | list | dict | None = None
    is_crowd: bool = False
    label: str | None = None
    is_quiet: bool = False

    @classmethod
    def of_coco(cls, thing: Mapping[str, Any], class_id: int, scale: tuple[float, float] = (1, 1)) -> "Drawn":
        """From an annotation of a COCO file or a COCO result; its box times `scale` (x, y), its mask as it is."""
        x, y, w, h = coco_box(thing)
        across, down = scale
        return cls(
            class_id=class_id,
            box=(x * across, y * down, (x + w) * across, (y + h) * down),
            score=thing.get("score"),
            mask=thing.get("segmentation"),
            is_crowd=bool(thing.get("iscrowd")),
        )


@dataclass(frozen=True, slots=True)
class ImageDetections:
    """What a model detects in one image, in its pixels.

    boxes: (N, 4) xyxy, float32; scores: (N,) float32; classes: (N,) int32 indices; masks: None for a model that has
    none.
    """

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    masks: "EncodedMasks | None"

    @classmethod
    def of(cls, instances: "Instances") -> "ImageDetections":
        """From detectron2's Instances on any device; `pred_masks` are encoded, or (N, H, W) bitmaps."""
        from xray_lazy.data.masks.mask_encoding import EncodedMasks, encode_bitmaps

        masks = instances.pred_masks if instances.has("pred_masks") else None
        return cls(
            boxes=instances.pred_boxes.tensor.detach().cpu().float().numpy(),
            scores=instances.scores.detach().cpu().float().numpy(),
            classes=instances.pred_classes.cpu().numpy().astype(np.int32),
            masks=masks if masks is None or isinstance(masks, EncodedMasks) else encode_bitmaps(masks),
        )

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def xywh(self) -> np.ndarray:
        """(N, 4) float32, as COCO has boxes."""
        return np.concatenate([self.boxes[:, :2], self.boxes[:, 2:] - self.boxes[:, :2]], axis=1)

    def drawn(self) -> list[Drawn]:
        """Each detection, to be drawn."""
        masks = [None] * len(self) if self.masks is None else self.masks
        rows = zip(self.classes.tolist(), self.boxes.tolist(), self.scores.tolist(), masks, strict=True)
        return [Drawn(class_id, tuple(box), score, mask) for class_id, box, score, mask in rows]


def coco_box(thing: Mapping[str, Any]) -> tuple[float, float, float, float]:
    """The box of a COCO annotation or result, or that of its mask (RLE), xywh pixels."""
    x, y, w, h = thing.get("bbox") or mask_util.toBbox(thing["segmentation"])
    return float(x), float(y), float(w), float(h)


def by_image(things: Iterable[Mapping], wanted: Collection | None = None) -> dict[int | str, list[Mapping]]:
    """COCO annotations or results by their `image_id`; with `wanted`, those of these images."""
    found: dict[int | str, list[Mapping]] = {}
    for thing in things:
        if wanted is None or thing["image_id"] in wanted:
            found.setdefault(thing["image_id"], []).append(thing)
    return found
