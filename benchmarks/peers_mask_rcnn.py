"""torchvision's and mayaku's Mask R-CNN R50-FPN with the weights and settings of ours.

Their settings are those of `configs/xray/mask_rcnn_r50.py` with `SAME`: the peers have no other stride and no other
number of samples in ROIAlign.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from detectron2 import model_zoo
from omegaconf import DictConfig
from torch import nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

from benchmarks.r50 import EDGE, LONGEST
from xray_lazy.engine.experiment import build_optimizer

SAME = ("model.backbone.bottom_up.stages.stride_in_1x1=False",
        "model.roi_heads.box_pooler.sampling_ratio=2", "model.roi_heads.mask_pooler.sampling_ratio=2")  # fmt: skip
TO_TORCHVISION = (
    (r"\.bottom_up\.stem\.", ".body."),
    (r"\.bottom_up\.res(\d)", lambda found: f".body.layer{int(found[1]) - 1}"),
    (r"conv(\d)\.norm", r"bn\1"),
    (r"shortcut\.norm", "downsample.1"),
    (r"shortcut", "downsample.0"),
    (r"fpn_lateral(\d)", lambda found: f"fpn.inner_blocks.{int(found[1]) - 2}.0"),
    (r"fpn_output(\d)", lambda found: f"fpn.layer_blocks.{int(found[1]) - 2}.0"),
    (r"proposal_generator\.rpn_head\.conv", "rpn.head.conv.0.0"),
    (r"proposal_generator\.rpn_head\.objectness_logits", "rpn.head.cls_logits"),
    (r"proposal_generator\.rpn_head\.anchor_deltas", "rpn.head.bbox_pred"),
    (r"box_head\.fc(\d)", lambda found: f"box_head.fc{int(found[1]) + 5}"),
    (r"mask_head\.mask_fcn(\d)", lambda found: f"mask_head.{int(found[1]) - 1}.0"),
    (r"mask_head\.deconv", "mask_predictor.conv5_mask"),
    (r"mask_head\.predictor", "mask_predictor.mask_fcn_logits"),
)


@dataclass(frozen=True)
class Peer:
    """Another library's model.

    Attributes:
        steps: for batches of ours, a function that trains a step on each of them, as the library's own loop does.
        detect: what is found in images `(H, W, 3)` BGR: the scores, and masks `(N, H, W)` bool, of each.
    """

    name: str
    steps: Callable[[list[list[dict]]], Callable[[], None]]
    detect: Callable[[Sequence[np.ndarray]], list[tuple[torch.Tensor, torch.Tensor]]]


def torchvision_peer(cfg: DictConfig, model: nn.Module, _folder: Path) -> Peer:
    """torchvision's parts and the loop of its reference training; images of a batch go through it together."""
    heads, rpn = cfg.model.roi_heads, cfg.model.proposal_generator
    # maskrcnn_resnet50_fpn without pretrained weights has batch norms that learn, and freezes nothing
    peer = MaskRCNN(
        resnet_fpn_backbone(backbone_name="resnet50", weights=None, trainable_layers=3),
        heads.num_classes + 1,
        min_size=EDGE,
        max_size=LONGEST,
        image_mean=[value / 255 for value in cfg.model.pixel_mean[::-1]],
        image_std=[value / 255 for value in cfg.model.pixel_std[::-1]],
        rpn_pre_nms_top_n_train=rpn.pre_nms_topk[0],
        rpn_pre_nms_top_n_test=rpn.pre_nms_topk[1],
        rpn_post_nms_top_n_train=rpn.post_nms_topk[0],
        rpn_post_nms_top_n_test=rpn.post_nms_topk[1],
        box_batch_size_per_image=heads.batch_size_per_image,
        _skip_resize=True,  # in training: the mapper has done it
    )
    peer.load_state_dict(_torchvision_weights(model.state_dict()))
    optimizer = build_optimizer(cfg, peer)

    def steps(batches: list[list[dict]]) -> Callable[[], None]:
        inputs = [tuple(zip(*map(_torchvision_sample, batch), strict=True)) for batch in batches]

        def train() -> None:
            peer.train()
            for images, targets in inputs:
                loss = sum(peer(list(images), list(targets)).values())
                if not np.isfinite(loss.item()):
                    raise FloatingPointError
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()

        return train

    @torch.inference_mode()
    def detect(images: Sequence[np.ndarray]) -> list[tuple[torch.Tensor, torch.Tensor]]:
        scaled = [torch.from_numpy(image[..., ::-1].copy()).permute(2, 0, 1) / 255 for image in images]
        return [(found["scores"], found["masks"][:, 0] > 0.5) for found in peer.eval()(scaled)]

    return Peer("torchvision", steps, detect)


def mayaku_peer(cfg: DictConfig, model: nn.Module, folder: Path) -> Peer | None:
    """mayaku's converted model, trainer and predictor, which takes one image after the other; None without mayaku."""
    try:
        from mayaku import from_pretrained
        from mayaku.d2 import convert_d2
        from mayaku.engine.trainer import SimpleTrainer
    except ImportError:
        print("mayaku is not installed: left out (pip install mayaku==2.0.1)")
        return None
    yaml = model_zoo.get_config("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml")
    yaml.MODEL.RESNETS.STRIDE_IN_1X1 = False
    yaml.MODEL.ROI_HEADS.NUM_CLASSES = cfg.model.roi_heads.num_classes
    yaml.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = cfg.model.roi_heads.batch_size_per_image
    yaml.INPUT.MIN_SIZE_TEST, yaml.INPUT.MAX_SIZE_TEST = EDGE, LONGEST
    (folder / "detectron2.yaml").write_text(yaml.dump())
    torch.save({"model": model.state_dict()}, folder / "detectron2.pth")
    convert_d2(folder / "detectron2.pth", d2_config=folder / "detectron2.yaml", output=folder / "mayaku.pth")
    predictor = from_pretrained(folder / "mayaku.pth", device="cpu")
    optimizer = build_optimizer(cfg, predictor.model)

    def steps(batches: list[list[dict]]) -> Callable[[], None]:
        trainer = SimpleTrainer(predictor.model, [[*map(_mayaku_sample, batch)] for batch in batches], optimizer)

        def train() -> None:
            for _ in batches:
                trainer.run_step()

        return train

    def detect(images: Sequence[np.ndarray]) -> list[tuple[torch.Tensor, torch.Tensor]]:
        predictor.model.eval()
        found = [predictor(cv2.cvtColor(image, cv2.COLOR_BGR2RGB)) for image in images]
        return [(items.scores, items.pred_masks) for items in found]

    return Peer("mayaku", steps, detect)


def _torchvision_weights(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Renamed; RGB in place of BGR; the background's class comes first, and has boxes and a mask, too."""
    weights = {}
    for name, value in state.items():
        for pattern, replacement in TO_TORCHVISION:
            name = re.sub(pattern, replacement, name)
        weights[name] = value
    weights["backbone.body.conv1.weight"] = weights["backbone.body.conv1.weight"].flip(1)
    for kind in ("weight", "bias"):
        scores, boxes = f"roi_heads.box_predictor.cls_score.{kind}", f"roi_heads.box_predictor.bbox_pred.{kind}"
        masks = f"roi_heads.mask_predictor.mask_fcn_logits.{kind}"
        weights[scores] = weights[scores].roll(1, 0)
        for name, count in ((boxes, 4), (masks, 1)):
            weights[name] = torch.cat([torch.zeros_like(weights[name][:count]), weights[name]])
    return weights


def _torchvision_sample(sample: dict) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    objects = sample["instances"]
    target = {"boxes": objects.gt_boxes.tensor, "labels": objects.gt_classes + 1}
    return sample["image"].flip(0) / 255, {**target, "masks": objects.gt_masks.tensor.byte()}


def _mayaku_sample(sample: dict) -> dict:
    from mayaku.structures.boxes import Boxes
    from mayaku.structures.instances import Instances
    from mayaku.structures.masks import BitMasks

    objects = sample["instances"]
    instances = Instances(objects.image_size, gt_boxes=Boxes(objects.gt_boxes.tensor), gt_classes=objects.gt_classes)
    instances.gt_masks = BitMasks(objects.gt_masks.tensor)
    return {"image": sample["image"].flip(0).float(), "instances": instances}
