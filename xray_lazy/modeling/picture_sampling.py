"""Anchors and proposals drawn with a seed of their picture.

detectron2 draws them from the global random state, so a picture's losses depend on what was drawn before it and on
which process it is in. Here a picture of a given global batch gets the same draw in any process: data-parallel
training has the losses of one process with the same batch.
"""

import math

import torch
from detectron2.modeling.proposal_generator import RPN
from detectron2.modeling.roi_heads import StandardROIHeads
from detectron2.utils import comm
from detectron2.utils.events import get_event_storage, has_event_storage


class PictureSeededRPN(RPN):
    """detectron2's RPN; `seed` is that of the draws."""

    def __init__(self, *, seed: int = 0, **kwargs):
        super().__init__(**kwargs)
        self._draws = PictureDraws(seed)
        self._diverged = False

    def forward(self, images, features, gt_instances=None):
        self._diverged = False
        proposals, losses = super().forward(images, features, gt_instances)
        return proposals, {name: loss * math.nan for name, loss in losses.items()} if self._diverged else losses

    def predict_proposals(self, anchors, logits, deltas, image_sizes):
        # detectron2 raises where training has diverged, in one process of several; losses tell it to all of them
        try:
            return super().predict_proposals(anchors, logits, deltas, image_sizes)
        except FloatingPointError:
            self._diverged = True
            zero_logits, zero_deltas = ([torch.zeros_like(x) for x in values] for values in (logits, deltas))
            return super().predict_proposals(anchors, zero_logits, zero_deltas, image_sizes)

    def label_and_sample_anchors(self, anchors, gt_instances):
        self._draws.start(len(gt_instances))
        return super().label_and_sample_anchors(anchors, gt_instances)

    def _subsample_labels(self, label: torch.Tensor) -> torch.Tensor:
        positive, negative = self._draws.subsample(label, self.batch_size_per_image, self.positive_fraction, 0)
        # unlike label[positive] = 1, for which the host waits for a GPU
        return label.fill_(-1).index_fill_(0, positive, 1).index_fill_(0, negative, 0)


class PictureSeededROIHeads(StandardROIHeads):
    """detectron2's standard ROI heads, which pool in float32; `seed` is that of the draws."""

    def __init__(self, *, seed: int = 0, **kwargs):
        super().__init__(**kwargs)
        self._draws = PictureDraws(seed)

    def forward(self, images, features, proposals, targets=None):
        # ROIAlign takes boxes in the features' type: in bfloat16, corners would move by up to 4 pixels of 1024 to 2048
        return super().forward(images, _in_float32(features), proposals, targets)

    def forward_with_given_boxes(self, features, instances):
        return super().forward_with_given_boxes(_in_float32(features), instances)

    def label_and_sample_proposals(self, proposals, targets):
        self._draws.start(len(targets))
        return super().label_and_sample_proposals(proposals, targets)

    def _sample_proposals(
        self, matched_idxs: torch.Tensor, matched_labels: torch.Tensor, gt_classes: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        labels = torch.full_like(matched_idxs, self.num_classes)
        if gt_classes.numel():
            matched = torch.where(matched_labels == -1, -1, gt_classes[matched_idxs])
            labels = torch.where(matched_labels == 0, self.num_classes, matched)
        foreground, background = self._draws.subsample(
            labels, self.batch_size_per_image, self.positive_fraction, self.num_classes
        )
        sampled = torch.cat([foreground, background])
        return sampled, labels[sampled]


class PictureDraws:
    """Random subsets for the pictures of one step, taken in the order of the local batch."""

    def __init__(self, seed: int):
        self.seed = seed
        self._next = 0
        self._iteration = 0

    def start(self, pictures: int) -> None:
        """Begin a local batch of `pictures` pictures."""
        self._next = 0
        self._iteration = get_event_storage().iter if has_event_storage() else 0

    def subsample(
        self, labels: torch.Tensor, count: int, positive_fraction: float, background: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw for the next picture.

        Args:
            labels: `(N,)`; -1 is never drawn, `background` is negative, all else positive.
            count: how many to draw in all, fewer where there are not enough.
            positive_fraction: the largest share of positives.

        Returns:
            indices of the positives and of the negatives, 1-d.
        """
        # process r holds the places r, r + world size, ... of the global batch (see data.sampling.BatchStream)
        place = self._next * comm.get_world_size() + comm.get_rank()
        self._next += 1
        generator = torch.Generator().manual_seed(hash((self.seed, self._iteration, place)) % 2**63)
        positive = torch.nonzero((labels != -1) & (labels != background)).squeeze(1)
        negative = torch.nonzero(labels == background).squeeze(1)
        positive = _draw(positive, int(count * positive_fraction), generator)
        return positive, _draw(negative, count - len(positive), generator)


def _in_float32(features: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: feature.float() for name, feature in features.items()}


def _draw(indices: torch.Tensor, count: int, generator: torch.Generator) -> torch.Tensor:
    # on the CPU for any device: one seed gives one draw everywhere
    order = torch.randperm(len(indices), generator=generator)[:count]
    return indices[order.to(indices.device, non_blocking=True)]
