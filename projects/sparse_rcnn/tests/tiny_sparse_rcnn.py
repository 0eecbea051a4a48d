"""Sparse R-CNN with the structure of the published one and hardly any weights, and images for it."""

from collections.abc import Sequence

import torch
from detectron2.config import LazyCall as L
from detectron2.config import instantiate
from detectron2.modeling.backbone import ResNet
from detectron2.modeling.backbone.resnet import BasicBlock
from detectron2.structures import BitMasks, Boxes, Instances
from omegaconf import DictConfig
from sparse_rcnn.classification import SoftmaxClassification
from sparse_rcnn.detector import SparseRCNN

from xray_lazy.config import apply_overrides, get_config

NUM_CLASSES, NUM_PROPOSALS, HIDDEN_DIM, NUM_STAGES = 3, 5, 16, 2


def tiny_config(
    boxes: str = "", masks: bool = False, softmax: bool = False, overrides: Sequence[str] = ()
) -> DictConfig:
    """The project's model, made small.

    Args:
        boxes: name in `common/proposal_boxes.py` of what gives proposal boxes; learned ones without.
        masks: with the mask head.
        softmax: classes and "no object" instead of the focal loss.
        overrides: as on a command line, such as `model.num_classes=4`; they come last.
    """
    cfg = get_config("projects/sparse_rcnn/common/model.py")
    cfg.model.update(num_classes=NUM_CLASSES, num_proposals=NUM_PROPOSALS, hidden_dim=HIDDEN_DIM)
    bottom_up = cfg.model.backbone.bottom_up
    bottom_up.stem.out_channels = 8
    bottom_up.stages = [
        L(ResNet.make_stage)(
            block_class=BasicBlock,
            num_blocks=1,
            stride_per_block=[stride],
            in_channels=in_channels,
            out_channels=out_channels,
            norm="FrozenBN",
        )
        for in_channels, out_channels, stride in [(8, 8, 1), (8, 12, 2), (12, 16, 2), (16, 24, 2)]
    ]
    bottom_up.freeze_at = 0
    cfg.model.head.num_stages = NUM_STAGES
    cfg.model.head.stage.update(num_heads=4, feedforward_dim=32, dynamic_dim=8)
    if boxes:
        cfg.model.init_proposal_boxes = get_config("projects/sparse_rcnn/common/proposal_boxes.py")[boxes]
        if boxes == "box_transformer":
            cfg.model.init_proposal_boxes.update(num_heads=4, feedforward_dim=32, mlp_hidden_dim=16)
    if masks:
        cfg.model.mask_head = get_config("projects/sparse_rcnn/common/mask_head.py").mask_head
        cfg.model.mask_head.stage.num_convs = 1
    if softmax:
        cfg.model.classification = L(SoftmaxClassification)(num_classes="${model.num_classes}")
    return apply_overrides(cfg, overrides)


def tiny_model(*args, seed: int = 0, **kwargs) -> SparseRCNN:
    """`tiny_config` built with the weights of a seed, in training mode."""
    torch.manual_seed(seed)
    return instantiate(tiny_config(*args, **kwargs).model)


def image(
    height: int = 64,
    width: int = 96,
    objects: int = 2,
    seed: int = 0,
    masks: bool = False,
    file_size: tuple[int, int] | None = None,
) -> dict:
    """A dataset dict of noise with random objects, whose masks are ellipses in their boxes."""
    random = torch.Generator().manual_seed(seed)
    corners = torch.rand(objects, 2, generator=random) * torch.tensor([width, height]) * 0.6
    sizes = torch.rand(objects, 2, generator=random) * torch.tensor([width, height]) * 0.3 + 8
    boxes = torch.cat([corners, corners + sizes], 1)
    instances = Instances((height, width))
    instances.gt_boxes = Boxes(boxes)
    instances.gt_classes = torch.randint(0, NUM_CLASSES, (objects,), generator=random)
    if masks:
        instances.gt_masks = BitMasks(ellipses(boxes, height, width))
    pixels = torch.randint(0, 256, (3, height, width), generator=random, dtype=torch.uint8)
    file_height, file_width = file_size or (height, width)
    return {"image": pixels, "instances": instances, "height": file_height, "width": file_width}


def ellipses(boxes: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Masks `(N, height, width)` of the ellipses that fill boxes `(N, 4)`."""
    rows, columns = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    left, top, right, bottom = boxes[:, :, None, None].unbind(1)
    x = (2 * columns - left - right) / (right - left)
    y = (2 * rows - top - bottom) / (bottom - top)
    return x**2 + y**2 <= 1


def total(losses: dict[str, torch.Tensor]) -> torch.Tensor:
    """What is minimised."""
    return torch.stack(list(losses.values())).sum()


def detect(model: SparseRCNN, batch: list[dict]) -> list[Instances]:
    """Detections in evaluation mode."""
    model.eval()
    with torch.no_grad():
        return [result["instances"] for result in model(batch)]
