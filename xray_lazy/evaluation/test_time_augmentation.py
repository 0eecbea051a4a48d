"""Test-time augmentation: detect on scaled and flipped copies of an image, and merge what was found."""

import inspect
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from detectron2.data import transforms as T
from detectron2.layers import batched_nms
from detectron2.modeling import GeneralizedRCNN, detector_postprocess
from detectron2.structures import Boxes, Instances
from torch import nn
from torchvision.ops import clip_boxes_to_image

from xray_lazy.data.image_reader import ImageReader, Reader
from xray_lazy.data.image_transforms import ImageInput, PlainInput
from xray_lazy.errors import UserError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageCopy:
    """A scaled and flipped copy of an image.

    image: (channels, H, W); transforms: from the pixels of the file to those of the copy; flipped_axes: of the image,
    -1 where left and right are swapped, -2 where top and bottom are.
    """

    image: torch.Tensor
    transforms: T.TransformList
    flipped_axes: tuple[int, ...]

    def boxes_from_file(self, boxes: torch.Tensor) -> torch.Tensor:
        """(N, 4) xyxy pixels of the file as pixels of the copy."""
        return _move_boxes(boxes, self.transforms)

    def boxes_to_file(self, boxes: torch.Tensor) -> torch.Tensor:
        """(N, 4) xyxy pixels of the copy as pixels of the file."""
        return _move_boxes(boxes, self.transforms.inverse())

    def masks_to_file(self, masks: torch.Tensor) -> torch.Tensor:
        """Masks within their boxes (N, 1, M, M): a scale changes nothing there, a flip is undone."""
        return masks.flip(self.flipped_axes)


class TestTimeAugmentation(nn.Module):
    """A model that detects on copies of each image at several scales, unflipped and flipped, and merges the results.

    The copies are made from the image's file, so that a scale above the model's own shows detail that its input has
    lost. Boxes of all copies are brought into the file's frame and go through NMS per class. A GeneralizedRCNN with a
    mask head then predicts masks within the merged boxes on each copy, and the mean counts, as in detectron2; other
    models' masks are those of the detections that NMS keeps.

    Cost: a forward pass for each scale, twice as many with a flip, four times with both (3 scales and a horizontal
    flip: 6 copies of each image); larger copies take more by their area, and a GeneralizedRCNN with masks runs its
    backbone twice. Masks stay at the resolution of the mask head (100 detections on 6 copies: 2 MB) until the merged
    ones are pasted.

    Args:
        model: has `inference(inputs, do_postprocess=False)`, which gives one Instances per image in the frame of
            `image`: `pred_boxes`, `scores`, `pred_classes` and, from models with masks, `pred_masks` (N, 1, M, M) of
            probabilities within the boxes.
        short_edge_lengths, max_size: scales of the copies, see detectron2's ResizeShortestEdge.
        horizontal_flip, vertical_flip: add flipped copies; for models that saw such flips in training.
        image_format: order of the channels that the model was trained with, "BGR" or "RGB".
        reader: how files are read; None for 8-bit colours.
        nms_threshold: IoU over which the lower score of two boxes of a class is dropped.
        detections_per_image: as many are kept, the best first.
        batch_size: copies per forward pass. Those of one scale follow each other, so that little is padded.

    Raises:
        UserError: the model has no such `inference`, or the settings make no copies.
    """

    uses_detector_postprocess = True  # see `encoding_masks`

    def __init__(
        self,
        model: nn.Module,
        short_edge_lengths: Sequence[int] = (700, 800, 900),
        max_size: int = 2000,
        horizontal_flip: bool = True,
        vertical_flip: bool = False,
        image_format: str = "BGR",
        nms_threshold: float = 0.5,
        detections_per_image: int = 100,
        batch_size: int = 2,
        reader: Reader | None = None,
    ):
        super().__init__()
        inference = getattr(model, "inference", None)
        if inference is None or "do_postprocess" not in inspect.signature(inference).parameters:
            raise UserError(
                f"{type(model).__name__} has no inference(inputs, do_postprocess=False), which test-time augmentation "
                "needs",
                "evaluate it with test.tta.enabled=False",
            )
        if not short_edge_lengths or batch_size < 1:
            raise UserError(
                f"test-time augmentation with scales {list(short_edge_lengths)} and {batch_size} copies at a time "
                "has nothing to look at",
                "set test.tta.model.short_edge_lengths and test.tta.model.batch_size",
            )
        self.model: Any = model
        self.resizes = [T.ResizeShortestEdge(length, max_size) for length in short_edge_lengths]
        horizontal = [(), (-1,)] if horizontal_flip else [()]
        vertical = [(), (-2,)] if vertical_flip else [()]
        self.flips = [left_right + top_bottom for left_right in horizontal for top_bottom in vertical]
        self.image_format, self.reader = image_format, reader or ImageReader()
        self.nms_threshold = nms_threshold
        self.detections_per_image = detections_per_image
        self.batch_size = batch_size
        self._masks_from_boxes = isinstance(model, GeneralizedRCNN) and getattr(model.roi_heads, "mask_on", False)
        logger.info("test-time augmentation detects on %d copies of each image", len(self.resizes) * len(self.flips))

    def forward(self, records: Sequence[dict]) -> list[dict[str, Instances]]:
        """Detections for dataset dicts with `file_name`, as the model itself gives them for `image`.

        Returns:
            `{"instances": Instances}` per image, in pixels of the file.
        """
        return self.inference(records)

    def inference(self, records: Sequence[dict], do_postprocess: bool = True) -> list[dict] | list[Instances]:
        """As `forward`; without `do_postprocess` masks stay probabilities within their boxes, (N, 1, M, M)."""
        found = [self._detect(record) for record in records]
        if not do_postprocess:
            return found
        return [{"instances": detector_postprocess(merged, *merged.image_size)} for merged in found]

    def _detect(self, record: dict) -> Instances:
        """In the frame of the file."""
        image = self.reader.read(record["file_name"], self.image_format)
        size = image.shape[:2]
        copies = self._copies_in_order(image)
        with self._masks_off():
            found = self._infer(record, copies)
        merged = merge_detections(found, copies, size, self.nms_threshold, self.detections_per_image)
        if self._masks_from_boxes:
            merged.pred_masks = self._mean_masks(record, copies, merged)
        return merged

    def copies(self, image: np.ndarray) -> list[ImageCopy]:
        """The copies of a BGR image (H, W, 3) uint8, in the model's order of channels."""
        return self._copies_in_order(image[:, :, ::-1] if self.image_format == "RGB" else image)

    def _copies_in_order(self, image: np.ndarray) -> list[ImageCopy]:
        return [copy for resize in self.resizes for copy in scaled_copies(image, resize, self.flips)]

    def _infer(
        self, record: dict, copies: Sequence[ImageCopy], detected: Sequence[Instances] | None = None
    ) -> list[Instances]:
        """What the model gives for each copy, in its frame; with `detected`, what it adds to these boxes."""
        results = []
        for start in range(0, len(copies), self.batch_size):
            batch = slice(start, start + self.batch_size)
            inputs = [{**record, "image": copy.image} for copy in copies[batch]]
            given = {} if detected is None else {"detected_instances": detected[batch]}
            results += self.model.inference(inputs, **given, do_postprocess=False)
        return results

    def _mean_masks(self, record: dict, copies: Sequence[ImageCopy], merged: Instances) -> torch.Tensor:
        """Mask probabilities (N, 1, M, M) within the merged boxes, the mean over the copies."""
        if not len(merged):
            return merged.scores.new_zeros(0, 1, 1, 1)
        detected = []
        for copy in copies:
            boxes = Boxes(copy.boxes_from_file(merged.pred_boxes.tensor))
            size = tuple(copy.image.shape[1:])
            detected.append(Instances(size, pred_boxes=boxes, pred_classes=merged.pred_classes))
        found = self._infer(record, copies, detected)
        masks = [copy.masks_to_file(f.pred_masks) for copy, f in zip(copies, found, strict=True)]
        return torch.stack(masks).mean(dim=0)

    @contextmanager
    def _masks_off(self) -> Iterator[None]:
        """Skip the mask head while boxes are looked for, where masks are predicted for the merged ones."""
        if not self._masks_from_boxes:
            yield
            return
        self.model.roi_heads.mask_on = False
        try:
            yield
        finally:
            self.model.roi_heads.mask_on = True


def scaled_copies(image: np.ndarray, resize: T.Augmentation, flips: Sequence[tuple[int, ...]]) -> Iterator[ImageCopy]:
    """One copy of the image (H, W, C) for each of `flips`, see `ImageCopy.flipped_axes`, all of the same size."""
    # of floats, detectron2 resizes without smoothing
    resized = (PlainInput if image.dtype == np.uint8 else ImageInput)(np.ascontiguousarray(image))
    transform = resize(resized)
    scaled = torch.from_numpy(resized.image.transpose(2, 0, 1).copy())
    mirrors = {-1: T.HFlipTransform(scaled.shape[2]), -2: T.VFlipTransform(scaled.shape[1])}
    for axes in flips:
        yield ImageCopy(scaled.flip(axes), T.TransformList([transform, *(mirrors[axis] for axis in axes)]), axes)


def merge_detections(
    found: Sequence[Instances],
    copies: Sequence[ImageCopy],
    size: tuple[int, int],
    nms_threshold: float,
    detections_per_image: int,
) -> Instances:
    """Detections of all copies of an image as one set in the file's frame: NMS per class, then the best scores.

    Args:
        found: of each copy, in its frame; masks, if any, (N, 1, M, M) within the boxes.
        size: height and width of the file.
    """
    boxes = torch.cat([copy.boxes_to_file(f.pred_boxes.tensor) for copy, f in zip(copies, found, strict=True)])
    boxes = Boxes(clip_boxes_to_image(boxes, size))
    fields = {name: torch.cat([f.get(name) for f in found]) for name in ("scores", "pred_classes")}
    if all(f.has("pred_masks") for f in found):
        fields["pred_masks"] = torch.cat([c.masks_to_file(f.pred_masks) for c, f in zip(copies, found, strict=True)])
    merged = Instances(size, pred_boxes=boxes, **fields)
    # one box that is not a number would keep NMS from dropping any other
    merged = merged[boxes.nonempty() & merged.scores.isfinite()]
    keep = batched_nms(merged.pred_boxes.tensor, merged.scores, merged.pred_classes, nms_threshold)
    return merged[keep[:detections_per_image]]


def _move_boxes(boxes: torch.Tensor, transforms: T.Transform) -> torch.Tensor:
    return torch.from_numpy(transforms.apply_box(boxes.cpu().numpy())).to(boxes)
