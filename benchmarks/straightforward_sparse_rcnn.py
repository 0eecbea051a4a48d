"""Sparse R-CNN in the plain way, step by step as published: what ours is compared with.

Backbone, preprocessing, weights and the order of boxes and stages are ours; what differs is how heads, matching and
losses are computed.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Boxes, Instances
from fvcore.nn import sigmoid_focal_loss_jit
from omegaconf import DictConfig
from scipy.optimize import linear_sum_assignment
from sparse_rcnn.detector import SparseRCNN
from sparse_rcnn.dynamic_stage import DynamicStage
from torch import nn
from torchvision.ops import generalized_box_iou

CLASS_WEIGHT, L1_WEIGHT, GIOU_WEIGHT = 2.0, 5.0, 2.0
ALPHA, GAMMA = 0.25, 2.0


def straightforward(model: DictConfig) -> DictConfig:
    """The node of a plain model with the weights' names of `model`, a node of `SparseRCNN` with the focal loss."""
    plain = model.copy()
    plain._target_ = StraightforwardSparseRCNN
    plain.head.stage._target_ = StraightforwardStage
    plain.head.box_pooler._target_ = ROIPooler
    return plain


class StraightforwardSparseRCNN(SparseRCNN):
    """Losses stage by stage, detections image by image."""

    def forward(self, batch: list[dict]) -> dict[str, torch.Tensor] | list[dict]:
        images = self.preprocess(batch)
        features = self.backbone(images.tensor)
        predictions = self.cascade([features[name].float() for name in self.in_features], images.image_sizes)
        if self.training:
            return self.losses(*predictions, self.targets(batch))
        logits, boxes = (values[-1].float() for values in predictions)
        results = []
        for image, (sample, size) in enumerate(zip(batch, images.image_sizes, strict=True)):
            scores, places = logits[image].sigmoid().flatten().topk(self.detections_per_image, sorted=False)
            result = Instances(size, scores=scores, pred_classes=places % self.num_classes)
            by_class = boxes[image][:, None].repeat(1, self.num_classes, 1).view(-1, 4)
            result.pred_boxes = Boxes(by_class[places])
            results.append({"instances": detector_postprocess(result, sample["height"], sample["width"])})
        return results

    def cascade(
        self, features: list[torch.Tensor], sizes: Sequence[tuple[int, int]]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits `(S, B, N, C)` and boxes `(S, B, N, 4)` of all stages."""
        scales = torch.stack([torch.tensor([w, h, w, h], dtype=torch.float32, device=self.device) for h, w in sizes])
        center, size = self.init_proposal_boxes.weight.split(2, dim=1)
        boxes = torch.cat([center - size / 2, center + size / 2], 1)[None] * scales[:, None]
        proposals = self.init_proposal_features.weight[None].repeat(len(sizes), 1, 1)
        logits, boxes, _ = self.head(features, boxes, proposals)
        return logits, boxes

    def targets(self, batch: list[dict]) -> list[dict[str, torch.Tensor]]:
        """Classes, boxes and scale of each image."""
        found = []
        for sample in batch:
            instances = sample["instances"].to(self.device)
            height, width = instances.image_size
            scale = torch.tensor([width, height, width, height], dtype=torch.float32, device=self.device)
            found.append({"classes": instances.gt_classes, "boxes": instances.gt_boxes.tensor, "scale": scale})
        return found

    def losses(
        self, logits: torch.Tensor, boxes: torch.Tensor, targets: list[dict[str, torch.Tensor]]
    ) -> dict[str, torch.Tensor]:
        """Match and compare one stage after the other."""
        losses = {}
        with torch.autocast(logits.device.type, enabled=False):
            for stage, (of_logits, of_boxes) in enumerate(zip(logits.float(), boxes.float(), strict=True)):
                suffix = "" if stage == len(logits) - 1 else f"_{stage}"
                matches = match(of_logits, of_boxes, targets)
                values = stage_losses(of_logits, of_boxes, targets, matches)
                losses |= {name + suffix: value for name, value in values.items()}
        return losses


class StraightforwardStage(DynamicStage):
    """Sequence-first attention that also returns its weights; regions and parameters permuted to and fro."""

    def __init__(self, **settings) -> None:
        super().__init__(**settings)
        self.self_attn.batch_first = False

    def forward(
        self, regions: torch.Tensor, boxes: torch.Tensor, proposals: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        images, count, dim = proposals.shape
        regions = regions.permute(1, 0, 2)
        proposals = proposals.permute(1, 0, 2)
        attended = self.self_attn(proposals, proposals, proposals)[0]
        proposals = self.norm1(proposals + self.dropout(attended))
        proposals = proposals.permute(1, 0, 2).reshape(1, images * count, dim)
        proposals = self.norm2(proposals + self.dropout(interact(self.inst_interact, proposals, regions)))
        thought = self.linear2(self.dropout(F.relu(self.linear1(proposals))))
        proposals = self.norm3(proposals + self.dropout(thought))
        features = proposals.transpose(0, 1).reshape(images * count, -1)
        logits = self.class_logits(self.cls_module(features.clone()))
        deltas = self.bboxes_delta(self.reg_module(features.clone())).float()
        boxes = self.box_transform.apply_deltas(deltas, boxes.view(-1, 4))
        shape = (images, count, -1)
        return logits.view(shape), boxes.view(shape), features.view(shape)


def interact(layers: nn.Module, proposals: torch.Tensor, regions: torch.Tensor) -> torch.Tensor:
    """Dynamic convolution of regions `(R * R, P, D)` with proposals `(1, P, D)`, which gives `(P, D)`."""
    parameters = layers.dynamic_layer(proposals).permute(1, 0, 2)
    half = layers.hidden_dim * layers.dynamic_dim
    first = parameters[:, :, :half].view(-1, layers.hidden_dim, layers.dynamic_dim)
    second = parameters[:, :, half:].view(-1, layers.dynamic_dim, layers.hidden_dim)
    regions = regions.permute(1, 0, 2)
    regions = F.relu(layers.norm1(torch.bmm(regions, first)))
    regions = F.relu(layers.norm2(torch.bmm(regions, second)))
    return F.relu(layers.norm3(layers.out_layer(regions.flatten(1))))


@torch.no_grad()
def match(
    logits: torch.Tensor, boxes: torch.Tensor, targets: list[dict[str, torch.Tensor]]
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Proposals and objects of each image that belong together; costs of all proposals with all objects."""
    images, count = logits.shape[:2]
    probability = logits.flatten(0, 1).sigmoid()
    classes = torch.cat([target["classes"] for target in targets])
    wanted = torch.cat([target["boxes"] for target in targets])
    negative = (1 - ALPHA) * probability**GAMMA * -(1 - probability + 1e-8).log()
    positive = ALPHA * (1 - probability) ** GAMMA * -(probability + 1e-8).log()
    class_cost = positive[:, classes] - negative[:, classes]
    own_scale = torch.stack([target["scale"] for target in targets])[:, None].repeat(1, count, 1).flatten(0, 1)
    wanted_scale = torch.cat([target["scale"].repeat(len(target["boxes"]), 1) for target in targets])
    l1_cost = torch.cdist(boxes.flatten(0, 1) / own_scale, wanted / wanted_scale, p=1)
    giou_cost = -generalized_box_iou(boxes.flatten(0, 1), wanted)
    cost = L1_WEIGHT * l1_cost + CLASS_WEIGHT * class_cost + GIOU_WEIGHT * giou_cost
    cost = cost.view(images, count, -1).cpu()
    by_image = cost.split([len(target["boxes"]) for target in targets], -1)
    pairs = [linear_sum_assignment(own[image]) for image, own in enumerate(by_image)]
    return [(torch.as_tensor(rows), torch.as_tensor(columns)) for rows, columns in pairs]


def stage_losses(
    logits: torch.Tensor,
    boxes: torch.Tensor,
    targets: list[dict[str, torch.Tensor]],
    matches: list[tuple[torch.Tensor, torch.Tensor]],
) -> dict[str, torch.Tensor]:
    """Weighted losses of one stage."""
    num_objects = max(sum(len(target["classes"]) for target in targets), 1)
    images = torch.cat([torch.full_like(rows, image) for image, (rows, _) in enumerate(matches)])
    places = (images, torch.cat([rows for rows, _ in matches]))
    classes, wanted, scales = (
        torch.cat([choose(target, columns) for target, (_, columns) in zip(targets, matches, strict=True)])
        for choose in (
            lambda target, columns: target["classes"][columns],
            lambda target, columns: target["boxes"][columns],
            lambda target, columns: target["scale"].repeat(len(columns), 1),
        )
    )
    no_object = logits.shape[-1]
    wanted_classes = torch.full(logits.shape[:2], no_object, dtype=torch.int64, device=logits.device)
    wanted_classes[places] = classes
    logits, wanted_classes = logits.flatten(0, 1), wanted_classes.flatten()
    positive = torch.nonzero(wanted_classes != no_object)[:, 0]
    one_hot = torch.zeros_like(logits)
    one_hot[positive, wanted_classes[positive]] = 1
    class_loss = sigmoid_focal_loss_jit(logits, one_hot, alpha=ALPHA, gamma=GAMMA, reduction="sum")
    found = boxes[places]
    l1_loss = F.l1_loss(found / scales, wanted / scales, reduction="sum")
    giou_loss = (1 - torch.diag(generalized_box_iou(found, wanted))).sum()
    return {
        "loss_ce": CLASS_WEIGHT * class_loss / num_objects,
        "loss_bbox": L1_WEIGHT * l1_loss / num_objects,
        "loss_giou": GIOU_WEIGHT * giou_loss / num_objects,
    }
