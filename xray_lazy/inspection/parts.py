"""Run a detector in parts: backbone, proposals, stages, heads. The same calls for R-CNNs and for Sparse R-CNN.

    parts = model_parts(trained.model)
    images = parts.prepare([sample])                         # samples as the test mapper makes them
    features = parts.backbone(images)                        # {"p2": (B, C, h, w), ...}
    proposals = parts.proposals(images, features)            # per image: boxes, and scores if there are any
    stages = parts.stages(images, features, proposals)       # per image and stage: boxes, class logits and scores
    detections = parts.heads(images, features, proposals)    # per image: Instances

All boxes are xyxy in the pixels of the prepared images.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from detectron2.modeling import GeneralizedRCNN
from detectron2.modeling.roi_heads import CascadeROIHeads, StandardROIHeads
from detectron2.structures import Boxes, ImageList, Instances
from torch import nn

from xray_lazy.errors import UserError


@dataclass(frozen=True)
class Proposals:
    """The proposals for one image.

    Attributes:
        boxes: `(N, 4)`, what the heads start from; best first where there are scores.
        scores: `(N,)`, 0 to 1; None where all proposals are equal before the heads have looked.
        layers: `(L, N, 4)`, the boxes after each layer of what makes them; the last one is `boxes`.
        queries: `(N, D)`, what heads that refine proposals know of each beside its box; else None.
    """

    boxes: torch.Tensor
    scores: torch.Tensor | None
    layers: torch.Tensor
    queries: torch.Tensor | None = None


@dataclass(frozen=True)
class Stage:
    """What one stage of the heads says about the proposals of one image, in their order.

    Attributes:
        boxes: `(N, 4)`, where the stage moved them; of the best class if each class has a box of its own.
        logits: `(N, K)`, of the classes, without that of "no object".
        scores: `(N, K)`, 0 to 1.
    """

    boxes: torch.Tensor
    logits: torch.Tensor
    scores: torch.Tensor


class ModelParts(ABC):
    """A detector whose parts can be called one by one; gradients are the caller's choice."""

    model: nn.Module

    @abstractmethod
    def prepare(self, samples: Sequence[dict]) -> ImageList:
        """Samples with `image` `(3, H, W)` as the normalised, padded batch."""

    @abstractmethod
    def backbone(self, images: ImageList) -> dict[str, torch.Tensor]:
        """The feature maps `(B, C, h, w)` by name, finest first."""

    @abstractmethod
    def proposals(self, images: ImageList, features: dict[str, torch.Tensor]) -> list[Proposals]:
        """Where the heads will look, for each image."""

    @abstractmethod
    def stages(
        self, images: ImageList, features: dict[str, torch.Tensor], proposals: Sequence[Proposals]
    ) -> list[list[Stage]]:
        """For each image what each stage says; a list without stages where the heads don't tell."""

    @abstractmethod
    def heads(
        self, images: ImageList, features: dict[str, torch.Tensor], proposals: Sequence[Proposals]
    ) -> list[Instances]:
        """The detections of each image, with masks `(K, 1, M, M)` inside of their boxes where the model draws them.

        `detectron2.modeling.postprocessing.detector_postprocess` brings them to an image of any size.
        """


@runtime_checkable
class RunsInParts(Protocol):
    """A model of another kind that can be run in parts, as Sparse R-CNN: it has these methods, documented there.

    It also has `in_features`, the names of the `feature_maps`, and a `classification` whose `scores(logits)` are those
    of the classes, 0 to 1.
    """

    def preprocess(self, batch: list[dict]) -> ImageList: ...
    def feature_maps(self, images: ImageList) -> list[torch.Tensor]: ...
    def first_proposals(self, features: Sequence[torch.Tensor], images: ImageList) -> Any: ...
    def refine(self, features: Sequence[torch.Tensor], boxes: torch.Tensor, queries: torch.Tensor) -> tuple: ...
    def detections(self, features: list[torch.Tensor], outputs: tuple, images: ImageList) -> list[Instances]: ...


def model_parts(model: nn.Module) -> ModelParts:
    """The parts of a Faster, Mask or Cascade R-CNN, or of a model that is `RunsInParts`.

    Raises:
        UserError: the model is of another kind.
    """
    if isinstance(model, GeneralizedRCNN) and model.proposal_generator is not None:
        return _RCNNParts(model)
    if isinstance(model, RunsInParts):
        return _RefiningParts(model)
    raise UserError(
        f"a {type(model).__name__} can't be run in parts",
        "give it what xray_lazy.inspection.parts.RunsInParts describes",
    )


class _RCNNParts(ModelParts):
    """detectron2's two-stage detectors."""

    def __init__(self, model: GeneralizedRCNN) -> None:
        self.model = model

    def prepare(self, samples):
        return self.model.preprocess_image(list(samples))

    def backbone(self, images):
        return dict(self.model.backbone(images.tensor))

    def proposals(self, images, features):
        found, _ = self.model.proposal_generator(images, features, None)
        return [
            Proposals(one.proposal_boxes.tensor, one.objectness_logits.sigmoid(), one.proposal_boxes.tensor[None])
            for one in found
        ]

    def stages(self, images, features, proposals):
        heads = self.model.roi_heads
        if not isinstance(heads, StandardROIHeads) or isinstance(heads, CascadeROIHeads):
            return [[] for _ in proposals]
        instances = self._instances(images, proposals)
        maps = [features[name] for name in heads.box_in_features]
        pooled = heads.box_pooler(maps, [one.proposal_boxes for one in instances])
        predictions = heads.box_predictor(heads.box_head(pooled))
        counts = [len(one) for one in instances]
        boxes = heads.box_predictor.predict_boxes(predictions, instances)
        scores = heads.box_predictor.predict_probs(predictions, instances)
        logits = predictions[0][:, :-1].split(counts)
        return [[_stage(*of_image)] for of_image in zip(boxes, logits, scores, strict=True)]

    def heads(self, images, features, proposals):
        return self.model.roi_heads(images, features, self._instances(images, proposals), None)[0]

    def _instances(self, images: ImageList, proposals: Sequence[Proposals]) -> list[Instances]:
        return [
            Instances(size, proposal_boxes=Boxes(one.boxes), objectness_logits=one.scores.logit())
            for size, one in zip(images.image_sizes, proposals, strict=True)
        ]


class _RefiningParts(ModelParts):
    """Models that refine a fixed number of proposals stage by stage."""

    def __init__(self, model: RunsInParts) -> None:
        self.model = model

    def prepare(self, samples):
        return self.model.preprocess(list(samples))

    def backbone(self, images):
        return dict(zip(self.model.in_features, self.model.feature_maps(images), strict=True))

    def proposals(self, images, features):
        first = self.model.first_proposals(list(features.values()), images)
        scores = [None] * len(first.queries)
        if first.logits is not None:
            scores = self.model.classification.scores(first.logits).amax(-1)
        return [
            Proposals(layers[-1], of_image, layers, queries)
            for layers, of_image, queries in zip(first.boxes.unbind(1), scores, first.queries, strict=True)
        ]

    def stages(self, images, features, proposals):
        logits, boxes, _ = self._refine(features, proposals)
        scores = self.model.classification.scores(logits.float())
        logits = logits[..., : scores.shape[-1]]
        return [
            [Stage(*of_stage) for of_stage in zip(boxes[:, image], logits[:, image], scores[:, image], strict=True)]
            for image in range(len(proposals))
        ]

    def heads(self, images, features, proposals):
        return self.model.detections(list(features.values()), self._refine(features, proposals), images)

    def _refine(self, features: dict[str, torch.Tensor], proposals: Sequence[Proposals]) -> tuple:
        boxes, queries = (
            torch.stack(values) for values in zip(*((one.boxes, one.queries) for one in proposals), strict=True)
        )
        return self.model.refine(list(features.values()), boxes, queries)


def _stage(boxes: torch.Tensor, logits: torch.Tensor, scores: torch.Tensor) -> Stage:
    """Of boxes `(N, 4)` or, one for each class, `(N, K * 4)`."""
    scores = scores[:, :-1]
    if boxes.shape[1] > 4:
        boxes = boxes.unflatten(1, (-1, 4))[torch.arange(len(boxes)), scores.argmax(1)]
    return Stage(boxes, logits, scores)
