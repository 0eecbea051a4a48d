"""Losses of predicted box deltas, of which some are left out, as detectron2 has them but without waiting for a GPU."""

import torch
from detectron2.layers import ciou_loss, diou_loss
from detectron2.modeling.box_regression import Box2BoxTransform
from fvcore.nn import giou_loss, smooth_l1_loss

OVERLAP_LOSSES = {"giou": giou_loss, "diou": diou_loss, "ciou": ciou_loss}


def box_loss(
    deltas: torch.Tensor,
    boxes: torch.Tensor,
    wanted: torch.Tensor,
    counted: torch.Tensor,
    transform: Box2BoxTransform,
    kind: str,
    beta: float,
) -> torch.Tensor:
    """The sum over those boxes that are counted; a scalar.

    Args:
        deltas: `(..., 4)`, that are predicted for `boxes`.
        wanted: `(..., 4)`, the boxes that they are to lead to.
        counted: `(...)`, bool.
        kind: "smooth_l1", of the deltas, or "giou", "diou", "ciou", of the boxes; beta: of the former.
    """
    deltas, boxes, wanted = (values.flatten(0, -2) for values in (deltas, boxes, wanted))
    counted = counted.flatten()[:, None]
    # what is not counted gets values that make no loss and no gradient that isn't finite
    boxes = boxes.where(counted, torch.arange(4.0, device=boxes.device))
    wanted = wanted.where(counted, boxes)
    if kind == "smooth_l1":
        losses = smooth_l1_loss(deltas, box_deltas(transform, boxes, wanted), beta=beta, reduction="none")
    elif kind in OVERLAP_LOSSES:
        found = transform.apply_deltas(deltas.where(counted, 0.0), boxes)
        losses = OVERLAP_LOSSES[kind](found, wanted, reduction="none")[:, None]
    else:
        raise ValueError(f"Invalid dense box regression loss type '{kind}'")  # detectron2's words
    return losses.where(counted, 0.0).sum()


def box_deltas(transform: Box2BoxTransform, boxes: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """`transform.get_deltas` of boxes `(N, 4)`, without its look at whether all of them have an area."""
    if type(transform) is not Box2BoxTransform:
        return transform.get_deltas(boxes, wanted)
    sizes, wanted_sizes = boxes[:, 2:] - boxes[:, :2], wanted[:, 2:] - wanted[:, :2]
    moves = (wanted[:, :2] + 0.5 * wanted_sizes) - (boxes[:, :2] + 0.5 * sizes)
    weights = torch.tensor(transform.weights).to(boxes.device, non_blocking=True)
    return torch.cat([weights[:2] * moves / sizes, weights[2:] * (wanted_sizes / sizes).log()], 1)
