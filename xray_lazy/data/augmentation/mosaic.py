"""Mosaic: parts of four images of the training set in one."""

from collections.abc import Sequence

import numpy as np
from detectron2.data import transforms as T
from detectron2.structures import BoxMode

from xray_lazy.data.augmentation.mixing import OtherRecords, Scene, encode_window
from xray_lazy.data.augmentation.ranges import MOST_SCALE, check_range, check_share
from xray_lazy.data.augmentation.transmission import white_level
from xray_lazy.data.image_transforms import moved_boxes, transform_image
from xray_lazy.data.masks.mask_rasters import MaskRasters, MaskWindow


class Mosaic:
    """Put the image and three others into the quarters around a random point (a part of `mapper.mixing`).

    After Bochkovskiy et al., "YOLOv4" (arXiv 2004.10934): for sets of some hundred images, since items appear smaller,
    beside others, and cut off. The result has the size of the image; each of the four is scaled, and cut to its
    quarter at a random place. What they don't fill is as white as the image's own background.

    Args:
        probability: that an image becomes a mosaic.
        middle: range of the point, as a share of width and height.
        scale: range of the factor that each image is scaled by.
        least_visible: share of an item's box that must be left by the cut; items with less are left out.
    """

    def __init__(
        self,
        probability: float = 0.5,
        middle: Sequence[float] = (0.3, 0.7),
        scale: Sequence[float] = (0.5, 1.0),
        least_visible: float = 0.3,
    ):
        check_share("a mosaic", "probability", probability)
        check_share("a mosaic", "least_visible", least_visible)
        check_range("a mosaic", "middle", middle, above=0, most=1)
        check_range("a mosaic", "scale", scale, above=0, most=MOST_SCALE)
        self.probability, self.middle, self.scale, self.least_visible = probability, middle, scale, least_visible

    def __call__(self, scene: Scene, random: np.random.Generator, others: OtherRecords) -> Scene:
        if random.random() >= self.probability:
            return scene
        height, width = scene.size
        x, y = (round(side * random.uniform(self.middle[0], self.middle[1])) for side in (width, height))
        canvas = np.empty_like(scene.image)
        canvas[:] = white_level(scene.image).round()
        annotations: list[dict] = []
        quarters = [(0, 0, x, y), (x, 0, width, y), (0, y, x, height), (x, y, width, height)]
        first = int(random.integers(len(quarters)))
        for number, quarter in enumerate(quarters):
            part = scene if number == first else others.draw(random)
            if part is not None:
                annotations += self._place(part, canvas, quarter, random)
        return Scene(canvas, annotations, scene.image_format)

    def _place(
        self, part: Scene, canvas: np.ndarray, quarter: tuple[int, int, int, int], random: np.random.Generator
    ) -> list[dict]:
        """Write a part of the scene into a quarter (xyxy) of the canvas; its annotations there."""
        left, top, right, bottom = quarter
        (height, width), scale = part.size, random.uniform(self.scale[0], self.scale[1])
        scaled_height, scaled_width = max(1, round(scale * height)), max(1, round(scale * width))
        shown_height, shown_width = min(bottom - top, scaled_height), min(right - left, scaled_width)
        if not (shown_height and shown_width):
            return []
        cut_x, cut_y = (
            random.integers(scaled_width - shown_width + 1),
            random.integers(scaled_height - shown_height + 1),
        )
        # next to the point where all four meet
        place_x = right - shown_width if left == 0 else left
        place_y = bottom - shown_height if top == 0 else top
        scaled = T.ResizeTransform(height, width, scaled_height, scaled_width)
        cut = T.CropTransform(int(cut_x), int(cut_y), shown_width, shown_height, scaled_width, scaled_height)
        moved = T.TransformList([scaled, cut])
        place = np.s_[place_y : place_y + shown_height, place_x : place_x + shown_width]
        canvas[place] = transform_image(part.image, moved)
        return self._annotations(part, moved, (shown_height, shown_width), (place_x, place_y), canvas.shape[:2])

    def _annotations(
        self,
        part: Scene,
        moved: T.TransformList,
        shown: tuple[int, int],
        place: tuple[int, int],
        size: tuple[int, int],
    ) -> list[dict]:
        """Those of the scene that are to be seen in the `shown` size at a place (x, y) of an image of `size`."""
        whole = moved_boxes(part.annotations, T.TransformList(moved.transforms[:1]), (10**9, 10**9))
        boxes = moved_boxes(part.annotations, moved, shown)
        rasters = MaskRasters(moved, part.size, shown)
        kept = []
        for annotation, before, box in zip(part.annotations, whole, boxes, strict=True):
            if not _area(box) or _area(box) < self.least_visible * _area(before):
                continue
            new = dict(annotation)
            new.pop("area", None)
            if "segmentation" in annotation:
                mask = rasters.draw(annotation["segmentation"])
                if not mask.bits.any():
                    continue
                new["segmentation"] = encode_window(
                    MaskWindow(mask.left + place[0], mask.top + place[1], mask.bits), size
                )
                if _area(box) < 0.999 * _area(before):  # what a cut leaves may fill less than what it leaves of the box
                    box = mask.box()
            left, top, right, bottom = (float(value) for value in box)
            new["bbox"] = [left + place[0], top + place[1], right - left, bottom - top]
            new["bbox_mode"] = BoxMode.XYWH_ABS
            kept.append(new)
        return kept


def _area(box: np.ndarray) -> float:
    return float((box[2] - box[0]) * (box[3] - box[1]))
