"""PointRend's mask head (Kirillov et al., CVPR 2020) of detectron2, with arguments in the config and global means."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from detectron2.layers import ShapeSpec
from detectron2.projects.point_rend import mask_head
from detectron2.projects.point_rend.point_features import (
    get_point_coords_wrt_image,
    get_uncertain_point_coords_with_randomness,
)
from detectron2.structures import Boxes, Instances
from fvcore.nn import weight_init
from torch import nn

from xray_lazy.data.masks.placed_masks import shares_at
from xray_lazy.modeling.global_losses import mask_loss, of_classes, share_of_global_mean
from xray_lazy.modeling.step_numbers import put_numbers


class PointRendMaskHead(mask_head.PointRendMaskHead):
    """Coarse masks, whose uncertain points are then decided one by one, from features at just these points.

    The mask of a thin item is as fine as the feature map of stride 4, not as the cells of its box. It takes feature
    maps itself: the ROI heads have no mask pooler, and the first of `in_features` in `mask_in_features`.

    Args:
        num_classes: masks for each box.
        in_channels: of each feature map.
        in_features: names of the feature maps that coarse masks and points look at; scales: of these, 1 / stride.
        pooler_size: of the grid that coarse masks look at; coarse_size: of these masks.
        coarse_dim, fc_dims: channels of the coarse head's convolutions (at most the features') and of its layers.
        point_dims: channels of the point head's layers.
        train_points: for each mask; oversample_ratio times as many are looked at for uncertain ones, which are
            `uncertain_share` of them.
        subdivision_steps: each doubles the resolution, from that of the coarse mask on, for the `subdivision_points`
            most uncertain points.
        loss_weight: of both losses.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int = 256,
        in_features: Sequence[str] = ("p2",),
        scales: Sequence[float] = (1 / 4,),
        pooler_size: int = 14,
        coarse_size: int = 7,
        coarse_dim: int = 256,
        fc_dims: Sequence[int] = (1024, 1024),
        point_dims: Sequence[int] = (256, 256, 256),
        train_points: int = 196,
        oversample_ratio: int = 3,
        uncertain_share: float = 0.75,
        subdivision_steps: int = 5,
        subdivision_points: int = 784,
        loss_weight: float = 1.0,
    ):
        nn.Module.__init__(self)
        channels = in_channels * len(in_features)
        self.coarse_head = mask_head.ConvFCHead(
            ShapeSpec(channels=channels, height=pooler_size, width=pooler_size),
            conv_dim=min(coarse_dim, channels),
            fc_dims=list(fc_dims),
            output_shape=(num_classes, coarse_size, coarse_size),
        )
        self.point_head = PointHead(channels, num_classes, point_dims)
        self.loss_weight = loss_weight
        # what detectron2's methods read
        self._feature_scales = dict(zip(in_features, scales, strict=True))
        self.roi_pooler_in_features = self.mask_point_in_features = list(in_features)
        self.roi_pooler_size = pooler_size
        self.mask_point_train_num_points = train_points
        self.mask_point_oversample_ratio, self.mask_point_importance_sample_ratio = oversample_ratio, uncertain_share
        self.mask_point_subdivision_num_points = subdivision_points
        # resolutions at which all points would be decided need not be gone through
        while 4 * coarse_size**2 <= subdivision_points:
            coarse_size, subdivision_steps = 2 * coarse_size, subdivision_steps - 1
        self.mask_point_subdivision_init_resolution = coarse_size
        self.mask_point_subdivision_steps = subdivision_steps

    def forward(self, features: dict[str, torch.Tensor], instances: list[Instances]):
        if not self.training:
            boxes = [of_image.pred_boxes for of_image in instances]
            coarse = self.coarse_head(self._roi_pooler(features, boxes))
            return self._subdivision_inference(features, coarse, instances)
        boxes = [of_image.proposal_boxes for of_image in instances]
        coarse = self.coarse_head(self._roi_pooler(features, boxes))
        points, wanted = self._train_points(coarse, instances)
        logits = self._get_point_logits(self._point_pooler(features, boxes, points), points, coarse)
        losses = {"loss_mask": mask_loss(coarse, instances), "loss_mask_point": _point_loss(logits, wanted, instances)}
        share = share_of_global_mean(len(points), coarse.device) * self.loss_weight
        return {name: loss * share for name, loss in losses.items()}

    @torch.no_grad()
    def _train_points(self, coarse: torch.Tensor, instances: list[Instances]) -> tuple[torch.Tensor, torch.Tensor]:
        """Points `(K, P, 2)` within the boxes, 0 to 1, and how far the masks cover them, `(K, P)`."""
        points = get_uncertain_point_coords_with_randomness(
            coarse,
            lambda logits: -of_classes(logits, instances)[:, None].abs(),
            self.mask_point_train_num_points,
            self.mask_point_oversample_ratio,
            self.mask_point_importance_sample_ratio,
        )
        boxes = Boxes.cat([of_image.proposal_boxes for of_image in instances]).tensor
        in_image = get_point_coords_wrt_image(boxes, points).split([len(i) for i in instances])
        wanted = [shares_at(i.gt_masks, own) for i, own in zip(instances, in_image, strict=True) if len(i)]
        return points, torch.cat([points.new_zeros(0, points.shape[1]), *wanted])


class PointHead(nn.Module):
    """A small network for each point by itself, which sees the coarse masks there again in each layer.

    Args:
        in_channels: of the features; num_classes: masks; dims: channels of its layers.
    """

    def __init__(self, in_channels: int, num_classes: int, dims: Sequence[int]):
        super().__init__()
        for number, channels in enumerate(dims, 1):
            layer = nn.Conv1d(in_channels + num_classes, channels, 1)
            weight_init.c2_msra_fill(layer)
            self.add_module(f"fc{number}", layer)
            in_channels = channels
        self.predictor = nn.Conv1d(in_channels + num_classes, num_classes, 1)
        nn.init.normal_(self.predictor.weight, std=0.001)
        nn.init.zeros_(self.predictor.bias)

    def forward(self, features: torch.Tensor, coarse: torch.Tensor) -> torch.Tensor:
        """Logits `(K, classes, P)`, from features `(K, C, P)` and coarse logits `(K, classes, P)`."""
        *layers, predictor = self.children()
        for layer in layers:
            features = F.relu(layer(torch.cat([features, coarse], 1)))
        return predictor(torch.cat([features, coarse], 1))


def _point_loss(logits: torch.Tensor, wanted: torch.Tensor, instances: list[Instances]) -> torch.Tensor:
    if not len(wanted):
        return logits.sum() * 0
    logits = of_classes(logits, instances)
    put_numbers(**{"mask_rcnn/point_accuracy": ((logits > 0) == (wanted >= 0.5)).float().mean()})
    return F.binary_cross_entropy_with_logits(logits, wanted)
