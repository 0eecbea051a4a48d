"""What in the image speaks for a class: LayerCAM for detectors."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from detectron2.structures import Boxes, Instances, pairwise_iou
from torch import nn

from xray_lazy.inspection.parts import ModelParts, Stage


def class_activations(
    parts: ModelParts, samples: list[dict], detections: list[Instances]
) -> list[dict[int, torch.Tensor]]:
    """For each image, by detected class, where in it the evidence for the detections of this class is.

    LayerCAM (Jiang et al., "LayerCAM: Exploring Hierarchical Class Activation Maps for Localization", IEEE TIP 2021):
    activations are weighted cell by cell with the positive gradient of the score, which keeps places apart that
    Grad-CAM's (Selvaraju et al., ICCV 2017) weights of whole channels mix. The score is the sum of the class's logits
    over the proposals that became the detections. The maps of all levels of the backbone, each relative to its
    maximum, are averaged.

    Args:
        samples: of one batch.
        detections: of these samples, in the pixels of `image`.

    Returns:
        maps `(H, W)` from 0 to 1 in the size of `image`; none where the heads don't tell their stages.
    """
    with torch.enable_grad(), _watched_levels(parts.model) as levels:
        images = parts.prepare(samples)
        features = parts.backbone(images)
        with torch.no_grad():
            proposals = parts.proposals(images, features)
        stages = parts.stages(images, features, proposals)
        maps = []
        for image, (of_image, found) in enumerate(zip(stages, detections, strict=True)):
            height, width = images.image_sizes[image]
            by_class = {}
            for class_id in found.pred_classes.unique().tolist() if of_image else ():
                score = of_image[-1].logits[proposals_of(of_image[-1], found, class_id), class_id].sum()
                gradients = torch.autograd.grad(score, levels, retain_graph=True, allow_unused=True)
                whole = _fused(levels, gradients, image, images.tensor.shape[-2:])
                by_class[class_id] = whole[:height, :width].cpu()
            maps.append(by_class)
    return maps


def proposals_of(stage: Stage, detections: Instances, class_id: int | None = None) -> torch.Tensor:
    """The proposals `(K,)` that became the detections (of a class): those whose boxes, scored for it, lie there."""
    if class_id is not None:
        detections = detections[detections.pred_classes == class_id]
    boxes = Boxes(stage.boxes.detach().clone())
    boxes.clip(detections.image_size)  # as those of detections are
    overlaps = pairwise_iou(detections.pred_boxes, boxes)
    scores = stage.scores.detach()[:, detections.pred_classes].T
    # several proposals may end in the same box: the detection is of the one with its score
    distance = (scores - detections.scores[:, None]).abs()
    return (overlaps - distance).argmax(1)


@contextmanager
def _watched_levels(model: nn.Module) -> Iterator[list[torch.Tensor]]:
    """The maps that the bottom-up backbone gives, as leaves of the graph: in front of them no gradient is needed."""
    levels: list[torch.Tensor] = []

    def watch(module: nn.Module, args: tuple, output: dict) -> dict:
        leaves = {name: level.detach().requires_grad_() for name, level in output.items()}
        levels[:] = leaves.values()
        return leaves

    backbone = getattr(model.backbone, "bottom_up", model.backbone)
    handle = backbone.register_forward_hook(watch)
    try:
        yield levels
    finally:
        handle.remove()


def _fused(levels: list[torch.Tensor], gradients: tuple, image: int, size: tuple[int, int]) -> torch.Tensor:
    maps = []
    for level, gradient in zip(levels, gradients, strict=True):
        if gradient is not None:
            own = (gradient[image].relu() * level[image].detach()).sum(0).relu()
            own = own / own.max().clamp(min=1e-12)
            maps.append(F.interpolate(own[None, None], size, mode="bilinear", align_corners=False)[0, 0])
    mean = torch.stack(maps).mean(0) if maps else torch.zeros(size)
    return mean / mean.max().clamp(min=1e-12)
