"""A training step's proposals of an RPN, for all images at once."""

from collections.abc import Sequence

import torch
from detectron2.layers import batched_nms
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.structures import Boxes, Instances
from torchvision.ops import nms


def best_proposals(
    anchors: Sequence[Boxes],
    logits: Sequence[torch.Tensor],
    deltas: Sequence[torch.Tensor],
    transform: Box2BoxTransform,
    image_sizes: Sequence[tuple[int, int]],
    nms_threshold: float,
    count_before_nms: int,
    count: int,
    min_box_size: float,
) -> tuple[list[Instances], torch.Tensor]:
    """What detectron2's `find_top_rpn_proposals` finds, of each level's `(R,)` anchors.

    The host waits for a GPU once for each image, in NMS, and once for all of them.

    Args:
        logits: `(B, R)` of each level; deltas: `(B, R, 4)`.

    Returns:
        the proposals, best first, and whether all numbers that they are made of are finite, a scalar.
    """
    scores, boxes, levels = [], [], []
    for level, (of_level, level_logits, level_deltas) in enumerate(zip(anchors, logits, deltas, strict=True)):
        best, places = level_logits.topk(min(count_before_nms, level_logits.shape[1]), dim=1)
        chosen = level_deltas.gather(1, places[..., None].expand(-1, -1, level_deltas.shape[-1]))
        moved = transform.apply_deltas(chosen.flatten(0, 1), of_level.tensor[places.flatten()])
        scores.append(best)
        boxes.append(moved.view_as(chosen))
        levels.append(torch.full(places.shape[1:], level, device=places.device))
    scores, boxes, levels = torch.cat(scores, 1), torch.cat(boxes, 1), torch.cat(levels)
    is_finite = boxes.isfinite().all(-1) & scores.isfinite()
    boxes = boxes.where(is_finite[..., None], 0.0)
    edges = torch.tensor([(width, height) * 2 for height, width in image_sizes], dtype=boxes.dtype)
    boxes = boxes.clamp(min=0).minimum(edges.to(boxes.device, non_blocking=True)[:, None])
    is_usable = is_finite & ((boxes[..., 2:] - boxes[..., :2]) > min_box_size).all(-1)
    # the last ones in NMS, where they take nothing from the others
    scores, boxes = scores.where(is_usable, -torch.inf), boxes.where(is_usable[..., None], 0.0)
    kept = [nms_by_level(*values, levels, nms_threshold)[:count] for values in zip(boxes, scores, strict=True)]
    usable = torch.stack([of_image[places].sum() for of_image, places in zip(is_usable, kept, strict=True)])
    results = []
    for image, (size, places, number) in enumerate(zip(image_sizes, kept, usable.tolist(), strict=True)):
        result = Instances(size, proposal_boxes=Boxes(boxes[image, places[:number]]))
        result.objectness_logits = scores[image, places[:number]]
        results.append(result)
    return results, is_finite.all()


def nms_by_level(boxes: torch.Tensor, scores: torch.Tensor, levels: torch.Tensor, threshold: float) -> torch.Tensor:
    """Places of the boxes `(N, 4)` that NMS leaves of each level, best first."""
    if boxes.device.type == "cpu":  # where many boxes are quicker level by level
        return batched_nms(boxes, scores, levels, threshold)
    # as torchvision does it on a GPU, but for a number that it copies there
    return nms(boxes + (levels * (boxes.max() + 1))[:, None], scores, threshold)
