"""Detections whose masks come encoded, without bitmaps of whole images on the way."""

from collections.abc import Callable, Sequence
from typing import Any

from detectron2.modeling import GeneralizedRCNN, detector_postprocess
from detectron2.structures import Instances, ROIMasks
from torch import nn

from xray_lazy.data.masks.mask_encoding import encode_bitmaps, encode_box_masks
from xray_lazy.evaluation.protocols import UsesDetectorPostprocess

_ASIDE = "masks_in_boxes"  # detector_postprocess knows no such field and only selects from it


def encoding_masks(model: nn.Module) -> Callable[[Sequence[dict]], list[dict]]:
    """What to call in place of `model`, in evaluation mode: the same outputs, masks as `EncodedMasks` where possible.

    That is possible where it is known that `model(batch)` is detectron2's `detector_postprocess` of
    `model.inference(batch, do_postprocess=False)`: for a `GeneralizedRCNN` whose `forward` and `inference` are its own,
    and for a class that says so of itself, see `UsesDetectorPostprocess`. Any other model is called as it is.
    """
    if not _is_known(model):
        return model

    detector: Any = model

    def detect(batch: Sequence[dict]) -> list[dict]:
        found = detector.inference(batch, do_postprocess=False)
        return [{"instances": postprocess(one, sample)} for one, sample in zip(found, batch, strict=True)]

    return detect


def postprocess(instances: Instances, sample: dict) -> Instances:
    """detectron2's `detector_postprocess` to the size of the image's file, with `EncodedMasks` as `pred_masks`.

    Args:
        instances: in pixels of `image`; changed in place. Masks are probabilities within the boxes, (N, 1, M, M); a
            model that knows no others may give bitmaps (N, H, W) of the image's file, with boxes in its pixels.
        sample: what the model was given; without `height` and `width` the instances stay at their size.
    """
    height, width = (
        sample.get(name, size) for name, size in zip(("height", "width"), instances.image_size, strict=True)
    )
    if not instances.has("pred_masks"):
        return detector_postprocess(instances, height, width)
    masks = instances.pred_masks
    instances.remove("pred_masks")
    instances.set(_ASIDE, masks)
    result = detector_postprocess(instances, height, width)
    masks = result.get(_ASIDE)
    result.remove(_ASIDE)
    if isinstance(masks, ROIMasks) or masks.dim() == 4:
        in_boxes = masks.tensor if isinstance(masks, ROIMasks) else masks
        result.pred_masks = encode_box_masks(in_boxes, result.pred_boxes.tensor, height, width)
    else:
        result.pred_masks = encode_bitmaps(masks)
    return result


def _is_known(model: nn.Module) -> bool:
    if model._forward_hooks or model._forward_pre_hooks:
        return False  # somebody looks at what `model(batch)` takes or gives
    if isinstance(model, GeneralizedRCNN):
        own: Any = type(model)
        return own.forward is GeneralizedRCNN.forward and own.inference is GeneralizedRCNN.inference
    return isinstance(model, UsesDetectorPostprocess) and model.uses_detector_postprocess
