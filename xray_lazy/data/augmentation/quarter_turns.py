"""Quarter turns: a bag on the belt has no up. Exact for pixels, boxes and masks."""

from collections.abc import Sequence

import numpy as np
from detectron2.data import transforms as T

from xray_lazy.data.followed_transforms import QuarterTurnTransform
from xray_lazy.errors import UserError


class RandomQuarterTurn(T.Augmentation):
    """One of some numbers of quarter turns, each equally often.

    Args:
        turns: counter-clockwise. (0, 2) leaves wide images wide: in a batch of wide and tall ones, all are filled up
            to the same square.
    """

    def __init__(self, turns: Sequence[int] = (0, 1, 2, 3)):
        super().__init__()
        if not turns or not set(turns) <= {0, 1, 2, 3}:
            raise UserError(f"quarter turns are from 0 to 3, not {list(turns)}", "set turns to some of 0, 1, 2, 3")
        self.turns = turns

    def get_transform(self, image: np.ndarray) -> T.Transform:
        turns = int(self.turns[np.random.randint(len(self.turns))])
        height, width = image.shape[:2]
        return QuarterTurnTransform(height, width, turns) if turns else T.NoOpTransform()
