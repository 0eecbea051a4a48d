"""Masks of many boxes at once on a CPU: in parts that stay in its cache, of the predicted class alone."""

import torch
import torch.nn.functional as F
from detectron2.modeling.roi_heads.mask_head import MaskRCNNConvUpsampleHead
from detectron2.structures import Instances
from torch import nn

from xray_lazy.modeling.global_losses import GlobalMeanMaskHead

# boxes whose enlarged features take 4 MB
VALUES_AT_ONCE = 2**20


class PartwiseMaskHead(nn.Module):
    """The same masks as detectron2's `MaskRCNNConvUpsampleHead` predicts (He et al., "Mask R-CNN", ICCV 2017).

    Its transposed convolution makes four pixels of each cell, which touch no others': that is a matrix product. So is
    the prediction, here for the box's class alone instead of for all classes.

    Args:
        head: whose layers are used.
    """

    def __init__(self, head: MaskRCNNConvUpsampleHead) -> None:
        super().__init__()
        self.head = head

    def forward(self, x: torch.Tensor, instances: list[Instances]) -> list[Instances]:
        """Set `pred_masks` `(N, 1, 2R, 2R)`, probabilities; `x` are features `(M, C, R, R)` of all boxes."""
        classes = torch.cat([of_image.pred_classes for of_image in instances])
        if self.head.predictor.out_channels == 1:
            classes = torch.zeros_like(classes)
        values = 4 * self.head.deconv.out_channels * x.shape[2] * x.shape[3]
        at_once = max(8, VALUES_AT_ONCE // values)
        parts = zip(x.split(at_once), classes.split(at_once), strict=True)
        masks = torch.cat([self._masks(features, of_boxes) for features, of_boxes in parts])
        for of_image, own in zip(instances, masks.split([len(one) for one in instances]), strict=True):
            of_image.pred_masks = own
        return instances

    def _masks(self, x: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        for convolution in self.head.conv_norm_relus:
            x = convolution(x)
        boxes, channels, height, width = x.shape
        deconv, predictor = self.head.deconv, self.head.predictor
        weight = deconv.weight.permute(2, 3, 1, 0).reshape(-1, channels)
        pixels = F.linear(x.permute(0, 2, 3, 1), weight, deconv.bias.repeat(4)).relu_()
        pixels = pixels.view(boxes, height * width * 4, deconv.out_channels)
        logits = pixels @ predictor.weight.flatten(1)[classes][:, :, None] + predictor.bias[classes][:, None, None]
        logits = logits.view(boxes, height, width, 2, 2).permute(0, 1, 3, 2, 4)
        return logits.reshape(boxes, 1, 2 * height, 2 * width).float().sigmoid_()


def use_partwise_mask_heads(model: nn.Module) -> int:
    """Put `PartwiseMaskHead` in the place of each mask head that it can replace; returns how many there are."""
    replaced = 0
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            # not of any subclass, which may do something else
            known = type(child) in (MaskRCNNConvUpsampleHead, GlobalMeanMaskHead)
            if known and not isinstance(parent, PartwiseMaskHead):
                setattr(parent, name, PartwiseMaskHead(child))
                replaced += 1
    return replaced
