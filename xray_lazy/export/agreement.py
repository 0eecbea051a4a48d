"""How far the detections of two models are apart in the same image."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

BOX_LIMIT = 0.1  # pixels
SCORE_LIMIT = 1e-3
MASK_LIMIT = 1e-2  # of a probability, at each cell
# what models without a threshold give below it is the background's, where which of equal scores are chosen is chance
LEAST_SCORE = 0.05


@dataclass(frozen=True)
class Difference:
    """Largest differences over pairs of detections.

    Attributes:
        wanted, found: number of detections of each model, above the least score.
        boxes: pixels, of any edge.
        scores, masks: of probabilities.
        unmatched: detections of either model without one of the same class and score in the other.
    """

    wanted: int
    found: int
    boxes: float
    scores: float
    masks: float
    unmatched: int

    @property
    def agrees(self) -> bool:
        """Whether everything is within the limits."""
        return (
            self.unmatched == 0 and self.boxes <= BOX_LIMIT and self.scores <= SCORE_LIMIT and self.masks <= MASK_LIMIT
        )


def worst(differences: Sequence[Difference]) -> Difference:
    """Those of several images as of one."""
    sums = {name: sum(getattr(one, name) for one in differences) for name in ("wanted", "found", "unmatched")}
    return Difference(
        **sums, **{name: max(getattr(one, name) for one in differences) for name in ("boxes", "scores", "masks")}
    )


def compare(
    wanted: dict[str, np.ndarray],
    found: dict[str, np.ndarray],
    score_limit: float = SCORE_LIMIT,
    least: float = 0.0,
) -> Difference:
    """Compare detections of two models.

    Those of equal scores may be in another order: each of `wanted` is paired with the nearest one of its class whose
    score is near.

    Args:
        wanted, found: `boxes` `(N, 4)`, `scores` `(N,)`, `classes` `(N,)` and maybe `masks` `(N, M, M)`.
        score_limit: within which scores are near.
        least: detections of a lower score count only as pairs of others.
    """
    is_wanted, is_found = (~(one["scores"] < least) for one in (wanted, found))
    pairs, alone = [], 0
    free = np.ones(len(found["scores"]), dtype=bool)
    for index in range(len(wanted["scores"])):
        alike = free & (found["classes"] == wanted["classes"][index])
        alike &= np.abs(found["scores"] - wanted["scores"][index]) <= score_limit
        candidates = np.flatnonzero(alike)
        if len(candidates):
            away = np.abs(found["boxes"][candidates] - wanted["boxes"][index]).max(1)
            nearest = candidates[away.argmin()]
            free[nearest] = False
            if is_wanted[index] or is_found[nearest]:
                pairs.append((index, nearest))
        else:
            alone += is_wanted[index]
    here, there = np.array(pairs, dtype=int).reshape(-1, 2).T

    def largest(name: str) -> float:
        if name not in wanted or name not in found:
            return 0.0 if name not in wanted and name not in found else float("inf")
        return float(np.abs(wanted[name][here] - found[name][there]).max(initial=0.0))

    unmatched = int(alone + (free & is_found).sum())
    counts = int(is_wanted.sum()), int(is_found.sum())
    return Difference(*counts, largest("boxes"), largest("scores"), largest("masks"), unmatched)
