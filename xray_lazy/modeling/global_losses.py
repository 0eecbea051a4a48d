"""R-CNN losses that are means over the global batch.

Data-parallel training averages the gradients of the processes. A loss that is a mean over the local proposals or masks
would then weigh a process with few of them as much as one with many; these heads weigh each proposal and mask alike,
whichever process it is in.
"""

import torch
from detectron2.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers
from detectron2.modeling.roi_heads.mask_head import MaskRCNNConvUpsampleHead, mask_rcnn_inference, mask_rcnn_loss
from detectron2.structures import Instances
from detectron2.utils import comm


def share_of_global_mean(count: int, device: torch.device) -> float | torch.Tensor:
    """What a local mean over `count` items is multiplied with, so that the mean over processes is the global mean.

    All processes must call it in the same order.
    """
    world_size = comm.get_world_size()
    if world_size == 1:
        return 1.0
    total = torch.full((), float(count), device=device)
    torch.distributed.all_reduce(total)
    return count * world_size / total.clamp(min=1)


class GlobalMeanBoxPredictor(FastRCNNOutputLayers):
    """detectron2's box predictor with means over the proposals of all processes."""

    def losses(self, predictions, proposals: list[Instances]) -> dict[str, torch.Tensor]:
        share = share_of_global_mean(sum(len(p) for p in proposals), predictions[0].device)
        return {name: loss * share for name, loss in super().losses(predictions, proposals).items()}


class GlobalMeanMaskHead(MaskRCNNConvUpsampleHead):
    """detectron2's mask head with a mean over the masks of all processes."""

    def forward(self, x: torch.Tensor, instances: list[Instances]):
        x = self.layers(x)
        if not self.training:
            mask_rcnn_inference(x, instances)
            return instances
        share = share_of_global_mean(sum(len(i) for i in instances), x.device)
        return {"loss_mask": mask_rcnn_loss(x, instances, self.vis_period) * self.loss_weight * share}
