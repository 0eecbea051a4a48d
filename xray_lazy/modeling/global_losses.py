"""R-CNN losses that are means over the global batch.

Data-parallel training averages the gradients of the processes, and accumulation those of micro-batches. A loss that is
a mean over the local proposals or masks would then weigh a process with few of them as much as one with many; these
heads weigh each proposal and mask alike, whichever process and micro-batch it is in.
"""

import torch
import torch.nn.functional as F
from detectron2.layers import cross_entropy
from detectron2.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers
from detectron2.modeling.roi_heads.mask_head import MaskRCNNConvUpsampleHead, mask_rcnn_inference, mask_rcnn_loss
from detectron2.structures import Instances

from xray_lazy.modeling.batch_counts import is_whole_batch, mean_count
from xray_lazy.modeling.box_losses import box_loss
from xray_lazy.modeling.step_numbers import put_numbers


def share_of_global_mean(count: int, device: torch.device) -> float | torch.Tensor:
    """What a local mean over `count` items is multiplied with, so that the mean over processes is the global mean.

    The same holds for micro-batches. All processes must call it in the same order.
    """
    if is_whole_batch():
        return 1.0
    return count / mean_count(count, device)


class GlobalMeanBoxPredictor(FastRCNNOutputLayers):
    """detectron2's box predictor with means over the proposals of all processes, and no wait for a GPU."""

    def losses(self, predictions, proposals: list[Instances]) -> dict[str, torch.Tensor]:
        scores, deltas = predictions
        classes = torch.cat([p.gt_classes for p in proposals])
        boxes = torch.cat([p.proposal_boxes.tensor for p in proposals])
        # without objects, all proposals are background, which has no box loss
        wanted = torch.cat([(p.gt_boxes if p.has("gt_boxes") else p.proposal_boxes).tensor for p in proposals])
        if len(classes):
            put_numbers(**_accuracies(scores, classes))
        if self.use_sigmoid_ce:
            class_loss = self.sigmoid_cross_entropy_loss(scores, classes)
        else:
            class_loss = cross_entropy(scores, classes, reduction="mean")
        losses = {"loss_cls": class_loss, "loss_box_reg": self.box_reg_loss(boxes, wanted, deltas, classes)}
        share = share_of_global_mean(len(classes), scores.device)
        return {name: loss * self.loss_weight.get(name, 1.0) * share for name, loss in losses.items()}

    def box_reg_loss(
        self, proposal_boxes: torch.Tensor, gt_boxes: torch.Tensor, pred_deltas: torch.Tensor, gt_classes: torch.Tensor
    ) -> torch.Tensor:
        is_object = (gt_classes >= 0) & (gt_classes < self.num_classes)
        deltas = pred_deltas.unflatten(1, (-1, proposal_boxes.shape[1]))
        of_class = gt_classes.clamp(0, deltas.shape[1] - 1)
        deltas = deltas[torch.arange(len(deltas), device=deltas.device), of_class]
        settings = (self.box2box_transform, self.box_reg_loss_type, self.smooth_l1_beta)
        return box_loss(deltas, proposal_boxes, gt_boxes, is_object, *settings) / max(len(gt_classes), 1)


class GlobalMeanMaskHead(MaskRCNNConvUpsampleHead):
    """detectron2's mask head with a mean over the masks of all processes, and no wait for a GPU."""

    def forward(self, x: torch.Tensor, instances: list[Instances]):
        x = self.layers(x)
        if not self.training:
            mask_rcnn_inference(x, instances)
            return instances
        share = share_of_global_mean(sum(len(i) for i in instances), x.device)
        loss = mask_rcnn_loss(x, instances, self.vis_period) if self.vis_period > 0 else mask_loss(x, instances)
        return {"loss_mask": loss * self.loss_weight * share}


def _accuracies(scores: torch.Tensor, classes: torch.Tensor) -> dict[str, torch.Tensor]:
    """What detectron2 logs of the classes of proposals `(N,)`; NaN for shares of objects where there are none."""
    found, background = scores.argmax(1), scores.shape[1] - 1
    is_object, is_right = (classes >= 0) & (classes < background), found == classes
    return {
        "fast_rcnn/cls_accuracy": is_right.float().mean(),
        "fast_rcnn/fg_cls_accuracy": (is_right & is_object).sum() / is_object.sum(),
        "fast_rcnn/false_negative": ((found == background) & is_object).sum() / is_object.sum(),
    }


def of_classes(logits: torch.Tensor, instances: list[Instances]) -> torch.Tensor:
    """Of logits `(K, classes or 1, ...)` of instances those of their true class, `(K, ...)`."""
    classes = torch.cat([i.gt_classes for i in instances]) if logits.shape[1] > 1 else 0
    return logits[torch.arange(len(logits), device=logits.device), classes]


def mask_loss(logits: torch.Tensor, instances: list[Instances]) -> torch.Tensor:
    """detectron2's `mask_rcnn_loss`, of logits `(K, classes or 1, M, M)`."""
    instances = [i for i in instances if len(i)]
    if not instances:
        return logits.sum() * 0
    logits = of_classes(logits, instances)
    masks = [i.gt_masks.crop_and_resize(i.proposal_boxes.tensor, logits.shape[-1]) for i in instances]
    wanted = torch.cat(masks).to(logits.device) > 0.5
    is_wrong, inside = (logits > 0) != wanted, wanted.sum()
    put_numbers(
        **{
            "mask_rcnn/accuracy": 1 - is_wrong.float().mean(),
            "mask_rcnn/false_positive": (is_wrong & ~wanted).sum() / (wanted.numel() - inside).clamp(min=1),
            "mask_rcnn/false_negative": (is_wrong & wanted).sum() / inside.clamp(min=1),
        }
    )
    return F.binary_cross_entropy_with_logits(logits, wanted.float())
