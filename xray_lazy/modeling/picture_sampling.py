"""Anchors and proposals drawn with a seed of their image, in steps that wait little for a GPU.

detectron2 draws them from the global random state, so an image's losses depend on what was drawn before it and on
which process and micro-batch it is in. Here an image of a given global batch gets the same draw in any of them:
data-parallel training and accumulation have the losses of one process with the same batch.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from detectron2.modeling.proposal_generator import RPN
from detectron2.modeling.proposal_generator.proposal_utils import add_ground_truth_to_proposals
from detectron2.modeling.roi_heads import CascadeROIHeads, StandardROIHeads
from detectron2.structures import Boxes, Instances
from detectron2.utils import comm
from detectron2.utils.events import get_event_storage, has_event_storage

from xray_lazy.modeling.batch_counts import images_before, is_counting, mean_count
from xray_lazy.modeling.box_losses import box_loss
from xray_lazy.modeling.global_losses import GlobalMeanBoxPredictor, GlobalMeanMaskHead
from xray_lazy.modeling.object_matching import PaddedBoxes, match_objects, objects_of, padded_rows
from xray_lazy.modeling.point_rend import PointRendMaskHead
from xray_lazy.modeling.region_proposals import best_proposals
from xray_lazy.modeling.step_numbers import put_numbers
from xray_lazy.utils.seeds import seed_of


class Draw(NamedTuple):
    """What is drawn for each of `B` images.

    places: `(B, K)`, the first `positives` of them of positives, the others of negatives.
    drawn: `(B, K)`, where there were enough.
    """

    places: torch.Tensor
    drawn: torch.Tensor
    positives: int

    def counts(self) -> torch.Tensor:
        """Positives and negatives of each image that are drawn, `(B, 2)`."""
        sections = [self.positives, self.drawn.shape[1] - self.positives]
        return torch.stack([part.sum(1) for part in self.drawn.split(sections, 1)], 1)


class PictureSeededRPN(RPN):
    """detectron2's RPN; `seed` is that of the draws. Training loses no time with anchors that are not drawn."""

    def __init__(self, *, seed: int = 0, **kwargs):
        super().__init__(**kwargs)
        self._draws = ImageDraws(seed)
        self._is_finite: torch.Tensor | None = None

    def forward(self, images, features, gt_instances=None):
        proposals, losses = super().forward(images, features, gt_instances)
        # detectron2 raises where training has diverged, in one process of several; losses tell it to all of them
        return proposals, {name: loss.where(self._is_finite, torch.nan) for name, loss in losses.items()}

    def predict_proposals(self, anchors, logits, deltas, image_sizes):
        if not self.training:
            return super().predict_proposals(anchors, logits, deltas, image_sizes)
        counts = self.pre_nms_topk[True], self.post_nms_topk[True]
        settings = (self.box2box_transform, image_sizes, self.nms_thresh, *counts, self.min_box_size)
        with torch.no_grad():
            proposals, self._is_finite = best_proposals(anchors, logits, deltas, *settings)
        return proposals

    @torch.no_grad()
    def label_and_sample_anchors(
        self, anchors: list[Boxes], gt_instances: list[Instances]
    ) -> tuple[Draw, torch.Tensor]:
        """The draw of each image's anchors, and the boxes of their objects, `(B, K, 4)`."""
        anchors, objects = Boxes.cat(anchors), objects_of(gt_instances)
        matched, labels = match_objects(objects, anchors.tensor[None], self.anchor_matcher)
        if self.anchor_boundary_thresh >= 0:
            sizes = (of_image.image_size for of_image in gt_instances)
            inside = torch.stack([anchors.inside_box(size, self.anchor_boundary_thresh) for size in sizes])
            labels = labels.where(inside, -1)
        self._draws.start(len(gt_instances))
        draw = self._draws.draw(labels == 1, labels == 0, self.batch_size_per_image, self.positive_fraction)
        return draw, _of_images(objects.boxes, matched.gather(1, draw.places))

    def losses(self, anchors, pred_objectness_logits, gt_labels: Draw, pred_anchor_deltas, gt_boxes: torch.Tensor):
        draw, images, positives = gt_labels, len(gt_boxes), gt_labels.positives
        counts = draw.counts().float().mean(0)
        put_numbers(**{"rpn/num_pos_anchors": counts[0], "rpn/num_neg_anchors": counts[1]})
        logits = _of_images(torch.cat(pred_objectness_logits, 1), draw.places).float()
        wanted = (torch.arange(logits.shape[1], device=logits.device) < positives).float().expand_as(logits)
        objectness = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none").where(draw.drawn, 0.0).sum()
        places = draw.places[:, :positives]
        localization = box_loss(
            _of_images(torch.cat(pred_anchor_deltas, 1), places),
            Boxes.cat(anchors).tensor[places],
            gt_boxes[:, :positives],
            draw.drawn[:, :positives],
            self.box2box_transform,
            self.box_reg_loss_type,
            self.smooth_l1_beta,
        )
        losses = {"loss_rpn_cls": objectness, "loss_rpn_loc": localization}
        share = 1 / (self.batch_size_per_image * images)
        return {name: loss * share * self.loss_weight.get(name, 1.0) for name, loss in losses.items()}


class PictureSeededROIHeads(StandardROIHeads):
    """detectron2's standard ROI heads, which pool in float32; `seed` is that of the draws."""

    def __init__(self, *, seed: int = 0, **kwargs):
        super().__init__(**kwargs)
        self._draws = ImageDraws(seed + 1)
        self._foreground: list[int] = []  # proposals of each image, which come first

    def forward(self, images, features, proposals, targets=None):
        if is_counting() and self._counts_are_known():
            sampled = self.label_and_sample_proposals(proposals, targets)
            counts = [sum(map(len, sampled)), *([sum(self._foreground)] if self.mask_on else [])]
            for count in counts:  # as the heads below ask for them
                mean_count(count, sampled[0].proposal_boxes.device)
            return sampled, {}
        # ROIAlign takes boxes in the features' type: in bfloat16, corners would move by up to 4 pixels of 1024 to 2048
        return super().forward(images, _in_float32(features), proposals, targets)

    def _counts_are_known(self) -> bool:
        """Whether box and mask head, of which a class of one's own may count otherwise, need not be run to count."""
        has_known_masks = not self.mask_on or type(self.mask_head) in (GlobalMeanMaskHead, PointRendMaskHead)
        return type(self.box_predictor) is GlobalMeanBoxPredictor and has_known_masks and not self.keypoint_on

    def forward_with_given_boxes(self, features, instances):
        return super().forward_with_given_boxes(_in_float32(features), instances)

    @torch.no_grad()
    def label_and_sample_proposals(self, proposals: list[Instances], targets: list[Instances]) -> list[Instances]:
        if self.proposal_append_gt:
            proposals = add_ground_truth_to_proposals(targets, proposals)
        padded = PaddedBoxes.collect([of_image.proposal_boxes.tensor for of_image in proposals])
        objects, background = objects_of(targets), self.num_classes
        matched, labels = match_objects(objects, padded.boxes, self.proposal_matcher)
        classes = padded_rows([of_image.gt_classes for of_image in targets], background).gather(1, matched)
        classes = torch.where(labels == 0, background, torch.where(labels == -1, -1, classes))
        classes = classes.where(objects.there.any(1, keepdim=True), background)
        may_be_drawn = padded.there & (classes != -1)
        is_background = classes == background
        self._draws.start(len(targets))
        draw = self._draws.draw(
            may_be_drawn & ~is_background,
            may_be_drawn & is_background,
            self.batch_size_per_image,
            self.positive_fraction,
        )
        # with these numbers, the heads compute for what is drawn, and need to ask for no more
        counts = draw.counts().tolist()
        self._foreground = [foreground for foreground, _ in counts]
        storage = get_event_storage()
        for name, numbers in zip(("fg", "bg"), zip(*counts, strict=True), strict=True):
            storage.put_scalar(f"roi_head/num_{name}_samples", sum(numbers) / len(numbers))
        results = []
        for image, (foreground, others) in enumerate(counts):
            places = draw.places[image]
            places = torch.cat([places[:foreground], places[draw.positives : draw.positives + others]])
            result = proposals[image][places]
            result.gt_classes = classes[image][places]
            if len(targets[image]):
                own = matched[image][places]
                for name, value in targets[image].get_fields().items():
                    if name.startswith("gt_") and not result.has(name):
                        result.set(name, value[own])
            results.append(result)
        return results

    def _forward_mask(self, features, instances):
        if not (self.training and self.mask_on):
            return super()._forward_mask(features, instances)
        instances = [of_image[:count] for of_image, count in zip(instances, self._foreground, strict=True)]
        features = {name: features[name] for name in self.mask_in_features}
        if self.mask_pooler is not None:
            features = self.mask_pooler(list(features.values()), [i.proposal_boxes for i in instances])
        return self.mask_head(features, instances)


class PictureSeededCascadeROIHeads(PictureSeededROIHeads, CascadeROIHeads):
    """detectron2's Cascade R-CNN (Cai and Vasconcelos, CVPR 2018) on proposals that are drawn so."""


class ImageDraws:
    """Random subsets for the images of one step, the same on any device."""

    def __init__(self, seed: int):
        self.seed = seed
        self._seeds: list[int] = []

    def start(self, images: int) -> None:
        """Begin a local batch of `images` images."""
        iteration = get_event_storage().iter if has_event_storage() else 0
        # process r holds the places r, r + world size, ... of the global batch (see data.sampling.BatchStream)
        own = range(images_before(), images_before() + images)
        places = [comm.get_rank() + place * comm.get_world_size() for place in own]
        self._seeds = [seed_of(self.seed, iteration, place) for place in places]

    def draw(self, positive: torch.Tensor, negative: torch.Tensor, count: int, positive_fraction: float) -> Draw:
        """Draw for each image.

        Args:
            positive, negative: `(B, N)`, what may be drawn as such.
            count: how many to draw in all, fewer where there are not enough.
            positive_fraction: the largest share of positives.
        """
        numbers = self._numbers(positive)
        limit = min(int(count * positive_fraction), numbers.shape[1])
        values, positives = numbers.where(positive, 2**32).topk(limit, largest=False)
        is_positive = values < 2**32
        values, negatives = numbers.where(negative, 2**32).topk(min(count, numbers.shape[1]), largest=False)
        left = count - is_positive.sum(1, keepdim=True)
        is_negative = (values < 2**32) & (torch.arange(values.shape[1], device=values.device) < left)
        return Draw(torch.cat([positives, negatives], 1), torch.cat([is_positive, is_negative], 1), limit)

    def _numbers(self, like: torch.Tensor) -> torch.Tensor:
        """Random numbers of 32 bits, `(B, N)`, all different in an image: those with the lowest ones are drawn."""
        seeds = torch.tensor(self._seeds)[:, None].to(like.device, non_blocking=True)
        return _scrambled(_scrambled(torch.arange(like.shape[1], device=like.device)) + seeds & 0xFFFFFFFF)


def _scrambled(values: torch.Tensor) -> torch.Tensor:
    """A permutation of the numbers of 32 bits, in int64: C. Wellons' `lowbias32`."""
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        values = (values ^ (values >> shift)) * factor & 0xFFFFFFFF
    return values ^ (values >> 16)


def _of_images(values: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """The values `(B, N, ...)` at each image's places `(B, K)`, as `(B, K, ...)`."""
    return values[torch.arange(len(values), device=values.device)[:, None], places]


def _in_float32(features: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: feature.float() for name, feature in features.items()}
