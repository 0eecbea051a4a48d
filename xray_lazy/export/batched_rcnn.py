"""R-CNN for a batch of any number of images: what detectron2 does for one image after the other, for all at once.

A trace of detectron2's own code has as many images as it was made with, since its loops over them are Python's.
"""

from typing import Any

import torch
import torch.nn.functional as F
from detectron2.modeling import GeneralizedRCNN
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.proposal_generator import RPN
from detectron2.modeling.roi_heads import CascadeROIHeads, FastRCNNOutputLayers, StandardROIHeads
from detectron2.modeling.roi_heads.mask_head import MaskRCNNConvUpsampleHead
from detectron2.structures import Boxes, Instances
from torch import nn
from torchvision.ops import nms

from xray_lazy.modeling.filled_batches import at_most, normalised_batch
from xray_lazy.modeling.global_losses import GlobalMeanBoxPredictor, GlobalMeanMaskHead
from xray_lazy.modeling.picture_sampling import (
    PictureSeededCascadeROIHeads,
    PictureSeededROIHeads,
    PictureSeededRPN,
)
from xray_lazy.modeling.region_pooling import RegionPooler, pool_apart

LOWEST = -1e9  # the score of what is no candidate


def can_be_batched(model: nn.Module) -> bool:
    """Whether it is made of known parts alone, whose computation is written down here."""
    if type(model) is not GeneralizedRCNN:
        return False
    heads: Any = model.roi_heads
    if type(heads) not in (StandardROIHeads, PictureSeededROIHeads, CascadeROIHeads, PictureSeededCascadeROIHeads):
        return False
    predictors = _in_stages(heads.box_predictor)
    poolers = [heads.box_pooler, *([heads.mask_pooler] if heads.mask_on else [])]
    return (
        type(model.proposal_generator) in (RPN, PictureSeededRPN)
        and all(type(one) in (FastRCNNOutputLayers, GlobalMeanBoxPredictor) for one in predictors)
        and all(type(pooler) in (ROIPooler, RegionPooler) for pooler in poolers)
        and (not heads.mask_on or type(heads.mask_head) in (MaskRCNNConvUpsampleHead, GlobalMeanMaskHead))
        and not heads.keypoint_on
        and not model.backbone.padding_constraints.get("square_size")
    )


class BatchedRCNN(nn.Module):
    """Faster, Mask or Cascade R-CNN as a function of tensors.

    Args:
        model: one that `can_be_batched`; put into evaluation mode.
    """

    takes_batches = True

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.detector: Any = model
        self.eval()

    def forward(self, images: torch.Tensor, sizes: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Detections of all images, image by image, the best of each first.

        Args:
            images: `(B, channels, H, W)`, 0..255, each at the upper left; what is beyond its size plays no part.
            sizes: `(B, 2)` int64, height and width of each.

        Returns:
            boxes `(N, 4)`, scores `(N,)`, classes `(N,)`, the image `(N,)` that each is in, and masks `(N, M, M)` if
            the model has any.
        """
        model = self.detector
        divisor = model.backbone.size_divisibility
        features = model.backbone(normalised_batch(images, sizes, model.pixel_mean, model.pixel_std, divisor))
        edges = sizes.flip(1).repeat(1, 2).to(torch.float32)  # right and lower ones, as x, y, x, y
        regions = self._proposals(features, edges)
        boxes, scores, classes, image = self._detections(features, regions, edges)
        outputs = (boxes, scores, classes, image)
        return (*outputs, self._masks(features, boxes, classes, image)) if model.roi_heads.mask_on else outputs

    def _proposals(self, features: dict[str, torch.Tensor], edges: torch.Tensor) -> torch.Tensor:
        """RPN's regions of all images: `(M, 5)`, image and xyxy pixels."""
        rpn = self.detector.proposal_generator
        maps = [features[name] for name in rpn.in_features]
        scores, boxes = [], []
        for anchors, logits, deltas in zip(rpn.anchor_generator(maps), *rpn.rpn_head(maps), strict=True):
            logits = logits.permute(0, 2, 3, 1).flatten(1)
            deltas = deltas.unflatten(1, (-1, 4)).permute(0, 3, 4, 1, 2).flatten(1, 3)
            best, places = logits.topk(at_most(logits.shape[1], rpn.pre_nms_topk[False]), dim=1)
            chosen = deltas.gather(1, places[..., None].expand(-1, -1, 4))
            moved = rpn.box2box_transform.apply_deltas(chosen.flatten(0, 1), anchors.tensor[places.flatten()])
            moved = moved.view_as(chosen)
            is_finite = moved.isfinite().all(-1) & best.isfinite()
            moved = _clipped(moved.where(is_finite[..., None], 0.0), edges[:, None])
            is_usable = is_finite & ((moved[..., 2:] - moved[..., :2]) > rpn.min_box_size).all(-1)
            kept = _kept(moved, best.where(is_usable, LOWEST), rpn.nms_thresh, LOWEST / 2, rpn.post_nms_topk[False])
            scores.append(kept)
            boxes.append(moved)
        scores, boxes = torch.cat(scores, 1), torch.cat(boxes, 1)
        scores, places = scores.topk(at_most(scores.shape[1], rpn.post_nms_topk[False]), dim=1)
        image, rank = (scores > LOWEST / 2).nonzero(as_tuple=True)
        return torch.cat([image[:, None].to(boxes.dtype), boxes[image, places[image, rank]]], 1)

    def _detections(
        self, features: dict[str, torch.Tensor], regions: torch.Tensor, edges: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Boxes, scores, classes and images of what the box heads find."""
        heads = self.detector.roi_heads
        # and one more, of no image: where there is no region, runtimes could not tell the lengths of what is empty
        image, owner = (F.pad(regions[:, 0].to(torch.int64), (0, 1), value=value) for value in (0, -1))
        own_edges = edges[image]
        stages = list(zip(_in_stages(heads.box_head), _in_stages(heads.box_predictor), strict=True))
        summed, boxes = 0, F.pad(regions[:, 1:], (0, 0, 0, 1))
        for number, (head, predictor) in enumerate(stages):
            if number:
                boxes = _clipped(boxes, own_edges)
            pooled = pool_apart(heads.box_pooler, [features[name] for name in heads.box_in_features], image, boxes)
            predictions = predictor(head(pooled))
            [of_stage] = predictor.predict_probs(predictions, [_instances(proposal_boxes=Boxes(boxes))])
            [boxes] = predictor.predict_boxes(predictions, [_instances(proposal_boxes=Boxes(boxes))])
            summed = summed + of_stage
        scores = summed * (1 / len(stages))
        classes = scores.shape[1] - 1
        is_finite = (boxes.isfinite().all(1) & scores.isfinite().all(1))[:, None]
        boxes = _clipped(boxes.where(is_finite, 0.0).unflatten(1, (-1, 4)), own_edges[:, None])
        scores = scores[:, :-1].where(is_finite, LOWEST)
        # a row for each image and class, in which those of other images are no candidates
        images, count = edges.shape[0], image.shape[0]
        is_own = torch.arange(images, device=image.device)[:, None] == owner
        of_class = scores.t()[None].where(is_own[:, None], LOWEST).flatten(0, 1)
        candidates = boxes.transpose(0, 1).expand(classes, -1, -1)
        candidates = candidates[None].expand(images, -1, -1, -1).flatten(0, 1)
        most = predictor.test_topk_per_image if predictor.test_topk_per_image >= 0 else 2**31 - 1
        kept = _kept(candidates, of_class, predictor.test_nms_thresh, predictor.test_score_thresh, most)
        kept = kept.view(images, classes * count)
        best, cells = kept.topk(at_most(kept.shape[1], most), dim=1)
        found, rank = (best > LOWEST / 2).nonzero(as_tuple=True)
        cells = cells[found, rank]
        found_class, region = cells.div(count, rounding_mode="floor"), cells % count
        column = found_class if boxes.shape[1] > 1 else torch.zeros_like(found_class)
        return boxes[region, column], best[found, rank], found_class, found

    def _masks(
        self, features: dict[str, torch.Tensor], boxes: torch.Tensor, classes: torch.Tensor, image: torch.Tensor
    ) -> torch.Tensor:
        heads = self.detector.roi_heads
        pooled = pool_apart(heads.mask_pooler, [features[name] for name in heads.mask_in_features], image, boxes)
        [found] = heads.mask_head(pooled, [_instances(pred_classes=classes)])
        return found.pred_masks[:, 0]


class GroupedNMS(torch.autograd.Function):
    """NMS of several groups of boxes, which ONNX has as one operator; what it leaves as pairs of group and place."""

    @staticmethod
    def forward(
        ctx: Any, boxes: torch.Tensor, scores: torch.Tensor, overlap: float, least: float, most: int
    ) -> torch.Tensor:
        """From boxes `(G, K, 4)` and scores `(G, K)`, of which those above `least` count, to `(N, 2)`."""
        pairs = [torch.empty(0, 2, dtype=torch.int64, device=boxes.device)]
        for group, (own, own_scores) in enumerate(zip(boxes, scores, strict=True)):
            [there] = (own_scores > least).nonzero(as_tuple=True)
            kept = there[nms(own[there], own_scores[there], overlap)[:most]]
            pairs.append(F.pad(kept[:, None], (1, 0), value=group))
        return torch.cat(pairs)

    @staticmethod
    def symbolic(g: Any, boxes: Any, scores: Any, overlap: float, least: float, most: int) -> Any:
        def constant(value: float, dtype: torch.dtype) -> Any:
            return g.op("Constant", value_t=torch.tensor([value], dtype=dtype))

        scores = g.op("Unsqueeze", scores, constant(1, torch.int64))  # one class in each group
        limits = constant(most, torch.int64), constant(overlap, torch.float32), constant(least, torch.float32)
        found = g.op("NonMaxSuppression", boxes, scores, *limits)
        columns = g.op("Constant", value_t=torch.tensor([0, 2]))
        return g.op("Gather", found, columns, axis_i=1)


def _kept(boxes: torch.Tensor, scores: torch.Tensor, overlap: float, least: float, most: int) -> torch.Tensor:
    """The scores `(G, K)`, where NMS leaves the box; else LOWEST."""
    pairs = GroupedNMS.apply(boxes, scores, overlap, least, most)
    group, place = pairs[:, 0], pairs[:, 1]
    return torch.full_like(scores, LOWEST).index_put((group, place), scores[group, place])


def _clipped(boxes: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
    """Boxes inside of right and lower edges, as x, y, x, y."""
    return boxes.clamp(min=0).minimum(edges)


def _instances(**fields: Any) -> Instances:
    """Of all images at once, as if they were one."""
    return Instances((0, 0), **fields)


def _in_stages(part: nn.Module) -> list[nn.Module]:
    return list(part) if isinstance(part, nn.ModuleList) else [part]
