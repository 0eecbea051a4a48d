"""Sparse R-CNN as a detectron2 model: from a batch of dataset dicts to losses or instances."""

from collections.abc import Sequence
from typing import Any, cast

import torch
from detectron2.modeling.backbone import Backbone
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Boxes, ImageList, Instances
from torch import nn

from sparse_rcnn.classification import FocalClassification, SoftmaxClassification
from sparse_rcnn.denoising import Denoising, NoisedObjects
from sparse_rcnn.dynamic_head import DynamicHead
from sparse_rcnn.mask_head import DynamicMaskHead
from sparse_rcnn.position_encoding import sizes_tensor
from sparse_rcnn.proposal_boxes import Proposals
from sparse_rcnn.set_loss import SetCriterion, named_by_stage
from sparse_rcnn.targets import Targets
from xray_lazy.errors import UserError
from xray_lazy.modeling.batch_counts import is_counting, mean_count
from xray_lazy.modeling.filled_batches import filled_up, normalised_batch
from xray_lazy.modeling.region_pooling import channels_together


class SparseRCNN(nn.Module):
    """Sparse R-CNN (Sun et al., "Sparse R-CNN: End-to-End Object Detection with Learnable Proposals", CVPR 2021).

    Names of parameters are those of the published checkpoints.

    Args:
        backbone: gives the feature maps.
        in_features: names of the feature maps that are used, finest first.
        num_classes: classes of the data set.
        num_proposals: `N`, the most objects that can be found in an image.
        hidden_dim: `D`, channels of the feature maps and of the proposals' features.
        classification: what class logits mean.
        init_proposal_boxes: a source of proposal boxes, see `proposal_boxes`.
        head: the cascade.
        criterion: the set loss.
        mask_head: draws masks; None for boxes only.
        denoising: also train the cascade from noised boxes of the ground truth; None leaves it out.
        supervise_proposal_boxes: also train the proposal boxes of each layer of their source, by matching boxes alone.
        detections_per_image: the best pairs of proposal and class that are given out.
        pixel_mean, pixel_std: per channel, in the order of `input_format`.
        input_format: "RGB" or "BGR".
    """

    uses_detector_postprocess = True  # evaluation then encodes masks without making bitmaps of images

    def __init__(
        self,
        backbone: Backbone,
        in_features: Sequence[str],
        num_classes: int,
        num_proposals: int,
        hidden_dim: int,
        classification: FocalClassification | SoftmaxClassification,
        init_proposal_boxes: nn.Module,
        head: DynamicHead,
        criterion: SetCriterion,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        mask_head: DynamicMaskHead | None = None,
        denoising: Denoising | None = None,
        supervise_proposal_boxes: bool = False,
        detections_per_image: int = 100,
        input_format: str = "RGB",
    ) -> None:
        super().__init__()
        if classification.num_classes != num_classes:
            classes = f"the model has {num_classes} classes, its classification {classification.num_classes}"
            raise UserError(classes, "give both the same num_classes")
        for level in getattr(init_proposal_boxes, "feature_levels", []):
            if not 0 <= level < len(in_features):
                levels = f"feature_level is {level}, but the model has {len(in_features)} feature maps"
                raise UserError(levels, f"set model.init_proposal_boxes.feature_level to 0..{len(in_features) - 1}")
        if supervise_proposal_boxes:
            _check_supervision(init_proposal_boxes)
        if mask_head is not None and len(mask_head.mask_series) != len(head.head_series):
            stages = f"the mask head has {len(mask_head.mask_series)} stages, the box head {len(head.head_series)}"
            raise UserError(stages, "leave model.mask_head.num_stages at ${model.head.num_stages}")
        if len(pixel_mean) != len(pixel_std):
            channels = f"pixel_mean is for {len(pixel_mean)} channels, pixel_std for {len(pixel_std)}"
            raise UserError(channels, "give model.pixel_mean and model.pixel_std one number for each channel")
        self.backbone, self.in_features, self.num_classes = backbone, list(in_features), num_classes
        self.classification, self.detections_per_image = classification, detections_per_image
        # a source that gives queries of its own would leave these without gradients
        self.init_proposal_features = (
            None if getattr(init_proposal_boxes, "gives_queries", False) else nn.Embedding(num_proposals, hidden_dim)
        )
        self.init_proposal_boxes = init_proposal_boxes
        self.head, self.mask_head, self.criterion = head, mask_head, criterion
        self.denoising, self.input_format = denoising, input_format
        self.supervise_proposal_boxes = supervise_proposal_boxes
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), persistent=False)

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    def forward(self, batch: list[dict]) -> dict[str, torch.Tensor] | list[dict]:
        """Losses in training, else `{"instances": Instances}` for each image in its file's pixels.

        Args:
            batch: dataset dicts with `image` `(3, H, W)`, and `instances` in training.
        """
        if not self.training:
            return self.inference(batch)
        if is_counting() and self._counts_objects_alone:
            mean_count(sum(len(sample["instances"]) for sample in batch), self.device)  # as `Targets.num_objects`
            return {}
        images = self.preprocess(batch)
        features = self.feature_maps(images)
        proposals = self.first_proposals(features, images)
        scales = self._scales(images)
        targets = Targets.collect([sample["instances"].to(self.device) for sample in batch], scales)
        noised = self.denoising(targets) if self.denoising is not None else None
        outputs, of_noised = self._refine_with(noised, features, proposals)
        logits, boxes, queries = outputs
        losses, matches = self.criterion(logits, boxes, targets, proposals)
        losses |= self._losses_of_proposals(proposals, targets)
        if noised is not None:
            found = self.criterion.losses(*of_noised[:2], noised.targets, noised.matches(len(logits)))
            for name, values in found.items():
                losses |= named_by_stage(f"{name}_denoising", values)
        if self.mask_head is not None:
            values = self.mask_head.losses(features, _within_image(boxes, scales), queries, targets, matches)
            losses |= named_by_stage("loss_mask", values)
        return losses

    @property
    def _counts_objects_alone(self) -> bool:
        """Whether losses are divided by nothing but the number of objects."""
        learns_queries = self.init_proposal_features is not None
        return self.classification.class_weights is None and learns_queries and self.denoising is None

    def _refine_with(
        self, noised: NoisedObjects | None, features: Sequence[torch.Tensor], proposals: Proposals
    ) -> tuple[tuple[torch.Tensor, ...], tuple[torch.Tensor, ...]]:
        """The outputs of `refine` of the proposals and of the noised boxes, which see none of each other."""
        boxes, queries = proposals.start, proposals.queries
        if noised is None:
            return self.refine(features, boxes, queries), ()
        count = boxes.shape[1]
        # the proposals are a group, too
        groups = torch.cat([noised.groups.new_full(boxes.shape[:2], -1), noised.groups], 1)
        queries = torch.cat([queries, noised.nearest(boxes, queries)], 1)
        outputs = self.head(features, torch.cat([boxes, noised.boxes], 1), queries, groups)
        first, others = zip(*((values[:, :, :count], values[:, :, count:]) for values in outputs), strict=True)
        return first, others

    def _losses_of_proposals(self, proposals: Proposals, targets: Targets) -> dict[str, torch.Tensor]:
        """Of what gives the cascade its start, beside those of the cascade."""
        if proposals.dense is not None:
            return self.init_proposal_boxes.losses(proposals, targets)
        if not self.supervise_proposal_boxes:
            return {}
        losses: dict[str, torch.Tensor] = {}
        by_boxes = self.criterion.matcher(None, proposals.boxes, targets)
        for name, values in self.criterion.box_losses(proposals.boxes, targets, by_boxes).items():
            losses |= named_by_stage(f"{name}_proposals", values)
        return losses

    def inference(self, batch: list[dict], do_postprocess: bool = True) -> list[dict] | list[Instances]:
        """Detections of a batch, best first.

        Without `do_postprocess`, instances in the pixels of `image`, with masks as probabilities `(K, 1, M, M)` inside
        of their boxes.
        """
        images = self.preprocess(batch)
        features = self.feature_maps(images)
        proposals = self.first_proposals(features, images)
        outputs = self.refine(features, proposals.start, proposals.queries)
        results = self.detections(features, outputs, images)
        if not do_postprocess:
            return results
        return [{"instances": _in_file(result, sample)} for result, sample in zip(results, batch, strict=True)]

    def preprocess(self, batch: list[dict]) -> ImageList:
        """The normalised images on the model's device, padded to a common size."""
        images = [(sample["image"].to(self.device) - self.pixel_mean) / self.pixel_std for sample in batch]
        return filled_up(images, self._divisor)

    @property
    def _divisor(self) -> int:
        return max(self.backbone.size_divisibility, 32)

    def feature_maps(self, images: ImageList) -> list[torch.Tensor]:
        """The feature maps `(B, D, h, w)` that are used, finest first."""
        # float32 for the poolers: in half precision the corners of boxes would move by pixels
        features = self.backbone(images.tensor)
        return channels_together([features[name].float() for name in self.in_features])

    def first_proposals(self, features: Sequence[torch.Tensor], images: ImageList) -> Proposals:
        """Where the cascade starts."""
        learned = None if self.init_proposal_features is None else self.init_proposal_features.weight
        padded_size = tuple(images.tensor.shape[-2:])
        return self.init_proposal_boxes(learned, features, images.image_sizes, padded_size)

    def refine(
        self, features: Sequence[torch.Tensor], boxes: torch.Tensor, queries: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The cascade from boxes `(B, N, 4)` and queries `(B, N, D)` on: its logits, boxes and queries of all stages.

        See `DynamicHead`.
        """
        return self.head(features, boxes, queries)

    def detections(self, features: list[torch.Tensor], outputs: tuple, images: ImageList) -> list[Instances]:
        """The best pairs of proposal and class of the last stage of `refine`, as `inference` without postprocessing."""
        boxes, scores, classes, *masks = self._best(features, outputs, images)
        results = []
        for image, size in enumerate(images.image_sizes):
            result = Instances(size, pred_boxes=Boxes(boxes[image]))
            result.scores, result.pred_classes = scores[image], classes[image]
            if masks:
                result.pred_masks = masks[0][image]
            results.append(result)
        return results

    def inference_of_tensors(self, images: torch.Tensor, sizes: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """`inference` as a function of tensors that a trace follows for any number of images.

        Args:
            images: `(B, channels, H, W)`, 0..255, each at the upper left.
            sizes: `(B, 2)` int64, height and width of each.

        Returns:
            boxes `(M, 4)`, scores `(M,)`, classes `(M,)`, the image `(M,)` that each is in, and masks if there are any.
        """
        pixels = normalised_batch(images, sizes, self.pixel_mean, self.pixel_std, self._divisor)
        padded = ImageList(pixels, cast(Any, sizes))
        features = self.feature_maps(padded)
        proposals = self.first_proposals(features, padded)
        outputs = self.refine(features, proposals.start, proposals.queries)
        boxes, scores, classes, *masks = self._best(features, outputs, padded)
        owner = torch.arange(scores.shape[0], device=scores.device)[:, None].expand_as(scores)
        found = (values.flatten(0, 1) for values in (boxes, scores, classes, owner))
        return (*found, *(values.flatten(0, 1)[:, 0] for values in masks))

    def _scales(self, images: ImageList) -> torch.Tensor:
        return sizes_tensor(images.image_sizes, self.device).flip(1).repeat(1, 2)

    def _best(self, features: list[torch.Tensor], outputs: tuple, images: ImageList) -> tuple[torch.Tensor, ...]:
        """Boxes `(B, K, 4)`, scores and classes `(B, K)`, and masks `(B, K, 1, M, M)` if there are any."""
        logits, boxes, proposals = (values[-1] for values in outputs)
        boxes = _within_image(boxes, self._scales(images))
        scores, classes, places = self.classification.best(logits.float(), self.detections_per_image)
        image = torch.arange(boxes.shape[0], device=boxes.device)[:, None].expand_as(places)
        boxes, proposals = boxes[image, places], proposals[image, places]
        found = (boxes, scores, classes)
        return (
            found if self.mask_head is None else (*found, self.mask_head.predict(features, boxes, proposals, classes))
        )


def _within_image(boxes: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    """Boxes `(..., B, N, 4)` cut at the edges of their images: what a mask is drawn in is what it is pasted into."""
    return boxes.clamp(min=0).minimum(scales[:, None])


def _check_supervision(source: nn.Module) -> None:
    """Refuse to supervise proposal boxes that learn nothing from it."""
    has_losses, is_learned = hasattr(source, "losses"), any(True for _ in source.parameters())
    if has_losses or not is_learned:
        reason = "have losses of their own" if has_losses else "are not learned"
        raise UserError(
            f"supervise_proposal_boxes has no effect with {type(source).__name__}, whose boxes {reason}",
            "set model.supervise_proposal_boxes=False",
        )


def _in_file(result: Instances, sample: dict) -> Instances:
    """The instances in the pixels of the image's file."""
    height, width = result.image_size
    return detector_postprocess(result, sample.get("height", height), sample.get("width", width))
