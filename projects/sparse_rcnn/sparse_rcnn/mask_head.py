"""Masks on top of the cascade: each proposal's own convolution draws its mask (Fang et al., QueryInst, ICCV 2021)."""

import copy
from collections.abc import Sequence

import torch
from detectron2.modeling.poolers import ROIPooler
from detectron2.structures import Boxes
from torch import nn

from sparse_rcnn.dynamic_stage import convolve
from sparse_rcnn.matching import Matches
from sparse_rcnn.targets import Targets
from xray_lazy.errors import UserError
from xray_lazy.modeling.region_pooling import pool_together


class DynamicMaskHead(nn.Module):
    """A mask stage beside each stage of the cascade; the last one predicts.

    Args:
        stage: copied for each stage, with new initial weights.
        mask_pooler: gives features of a box.
        num_stages: as many as the cascade has.
        loss_weight: of the dice loss.
    """

    def __init__(
        self, stage: "DynamicMaskStage", mask_pooler: ROIPooler, num_stages: int = 6, loss_weight: float = 8.0
    ) -> None:
        super().__init__()
        self.mask_pooler, self.loss_weight = mask_pooler, loss_weight
        self.mask_series = nn.ModuleList(copy.deepcopy(stage) for _ in range(num_stages))
        for one in self.mask_series:
            one.reset_parameters()

    def losses(
        self,
        features: Sequence[torch.Tensor],
        boxes: torch.Tensor,
        proposals: torch.Tensor,
        targets: Targets,
        matches: Matches,
    ) -> torch.Tensor:
        """Dice losses `(S,)` of the matched proposals, whose masks are drawn in the boxes that were predicted.

        Args:
            features: one `(B, D, h, w)` for each level of the pooler, float32.
            boxes: `(S, B, N, 4)`, xyxy pixels.
            proposals: `(S, B, N, D)`.

        Raises:
            UserError: the targets have no masks.
        """
        if targets.masks is None:
            fix = "set dataloader.train.mapper.with_masks=True, or leave masks out with model.mask_head=null"
            raise UserError("the model has a mask head, but instances in the batch have no masks", fix)
        boxes, proposals = matches.take(boxes.detach()), matches.take(proposals)
        losses = []
        for stage, mask_stage in enumerate(self.mask_series):
            logits = mask_stage(self._regions(features, boxes[stage], matches.counts), proposals[stage])
            objects = matches.objects[stage]
            logits = mask_stage.of_class(logits, targets.classes[objects])
            wanted = masks_in_boxes(targets, matches.counts, objects, boxes[stage], logits.shape[-1])
            losses.append(dice_loss(logits.float(), wanted).sum())
        return torch.stack(losses) * self.loss_weight / targets.num_objects

    def predict(
        self,
        features: Sequence[torch.Tensor],
        boxes: torch.Tensor,
        proposals: torch.Tensor,
        classes: torch.Tensor,
    ) -> torch.Tensor:
        """Mask probabilities `(B, K, 1, 2R, 2R)` inside of boxes `(B, K, 4)`."""
        stage = self.mask_series[-1]
        logits = stage(pool_together(self.mask_pooler, features, boxes), proposals.flatten(0, 1))
        masks = stage.of_class(logits, classes.flatten())
        return masks[:, None].float().sigmoid().unflatten(0, classes.shape)

    def _regions(self, features: Sequence[torch.Tensor], boxes: torch.Tensor, counts: list[int]) -> torch.Tensor:
        return self.mask_pooler(list(features), [Boxes(of_image) for of_image in boxes.split(counts)])


class DynamicMaskStage(nn.Module):
    """Dynamic convolution with the proposal's feature, convolutions, and twice the resolution.

    Args:
        num_classes: masks per proposal.
        class_agnostic: one mask per proposal, for all classes.
        hidden_dim: channels of features and proposals.
        dynamic_dim: inside of the dynamic convolution.
        num_convs: 3x3 convolutions.
    """

    def __init__(
        self,
        num_classes: int,
        class_agnostic: bool = False,
        hidden_dim: int = 256,
        dynamic_dim: int = 64,
        num_convs: int = 4,
    ) -> None:
        super().__init__()
        self.class_agnostic = class_agnostic
        self.dynamic_layer = nn.Linear(hidden_dim, 2 * hidden_dim * dynamic_dim)
        self.norm1, self.norm2 = nn.LayerNorm(dynamic_dim), nn.LayerNorm(hidden_dim)
        layers: list[nn.Module] = []
        for _ in range(num_convs):
            layers += [nn.Conv2d(hidden_dim, hidden_dim, 3, padding=1), nn.ReLU()]
        layers += [nn.ConvTranspose2d(hidden_dim, hidden_dim, 2, stride=2), nn.ReLU()]
        self.convs = nn.Sequential(*layers)
        self.mask_logits = nn.Conv2d(hidden_dim, 1 if class_agnostic else num_classes, 1)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Xavier for the dynamic layer, Kaiming for the convolutions."""
        nn.init.xavier_uniform_(self.dynamic_layer.weight)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(module.bias)

    def forward(self, regions: torch.Tensor, proposals: torch.Tensor) -> torch.Tensor:
        """From regions `(K, D, R, R)` and proposals `(K, D)` to logits `(K, classes, 2R, 2R)`."""
        seen = convolve(proposals, regions.flatten(2).transpose(1, 2), self.dynamic_layer, self.norm1, self.norm2)
        return self.mask_logits(self.convs(seen.transpose(1, 2).reshape(regions.shape)))

    def of_class(self, logits: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        """The mask `(K, H, W)` of each proposal's class."""
        places = torch.arange(logits.shape[0], device=logits.device)  # a length that a traced graph leaves open
        return logits[:, 0] if self.class_agnostic else logits[places, classes]


def masks_in_boxes(
    targets: Targets, counts: list[int], objects: torch.Tensor, boxes: torch.Tensor, size: int
) -> torch.Tensor:
    """What of the masks of objects `(K,)` is in boxes `(K, 4)`, of which each image has `counts`.

    Returns:
        `(K, size, size)`, 0 or 1.
    """
    wanted = []
    for image, (own, places) in enumerate(zip(objects.split(counts), boxes.split(counts), strict=True)):
        masks = targets.masks[image][own - targets.slice_of(image).start]
        wanted.append(masks.crop_and_resize(places, size))
    return torch.cat(wanted).to(boxes.dtype)


def dice_loss(logits: torch.Tensor, wanted: torch.Tensor, eps: float = 1e-5) -> torch.Tensor:
    """1 - dice coefficient with squared denominator (Milletari et al., 3DV 2016) of masks `(K, H, W)`, as `(K,)`."""
    found, wanted = logits.sigmoid().flatten(1), wanted.flatten(1)
    overlap = (found * wanted).sum(1)
    return 1 - 2 * overlap / (found.square().sum(1) + wanted.square().sum(1) + 2 * eps)
