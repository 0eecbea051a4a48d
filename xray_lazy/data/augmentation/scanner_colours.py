"""Images in the colours of another scanner: a curve for each channel leads from one scanner's values to another's.

A curve is the same for all images of a scanner and rises, so that equal materials stay equal and keep their order.
"""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from detectron2.data import transforms as T

from xray_lazy.data.augmentation.ranges import check_range
from xray_lazy.data.augmentation.recording import drawn
from xray_lazy.data.augmentation.scanner_statistics import CHANNELS, read_colours, scanner_of
from xray_lazy.data.followed_transforms import PixelTransform
from xray_lazy.errors import UserError

STEEPEST = 2.5  # of a curve: how many values one becomes, or how many become one


class ScannerColours(T.Augmentation):
    """Shift an image's colours towards those of another scanner, which is drawn.

    Args:
        statistics: JSON file that `tools/dataset.py colours` has made of images of several scanners.
        strength: range of how far along the way; 1 is the other scanner's values.
        image_format: order of the channels, "BGR" or "RGB".
    """

    needs_colours = True

    def __init__(self, statistics: str, strength: Sequence[float] = (0.3, 1.0), image_format: str = "BGR"):
        super().__init__()
        check_range("a scanner's colours", "strength", strength, least=0, most=1)
        self.statistics, self.strength, self.image_format = statistics, strength, image_format
        self._scanners = read_colours(statistics)

    def get_transform(self, image: np.ndarray, file_name: str) -> T.Transform:
        """Raises: UserError: the image is of no scanner of the file."""
        own = scanner_of(file_name, self._scanners)
        if own is None:
            raise UserError(
                f"{file_name} is of no scanner whose colours {self.statistics} knows: "
                + ", ".join(f"{name} ({one['files']})" for name, one in self._scanners.items()),
                "make the file of all scanners that are trained on, with `tools/dataset.py colours`",
            )
        others = [name for name in self._scanners if name != own]
        other = others[int(np.random.randint(len(others)))]
        strength = drawn(self.strength)
        table = curves(self._scanners[own], self._scanners[other], strength)
        if self.image_format == "RGB":
            table = np.ascontiguousarray(table[:, ::-1])
        return PixelTransform(lambda pixels: cv2.LUT(pixels, table[:, None]))


def curves(source: Mapping, target: Mapping, strength: float = 1.0) -> np.ndarray:
    """From each value to the one of equal meaning in another scanner: (256, 3) uint8, blue, green, red.

    White leads to white, and known shares of the pixels with something in them to the same shares.
    """
    values = np.arange(256.0)
    columns = []
    for channel in CHANNELS:
        known, wanted = _anchors(source, channel), _anchors(target, channel)
        # what is brighter than white stays so much brighter: only noise is
        moved = np.interp(values, known, wanted) + np.maximum(values - known[-1], 0)
        # where contents differ, not colours, a step of the curve would turn noise into spots
        steps = np.diff(moved).clip(1 / STEEPEST, STEEPEST)
        curve = np.concatenate([[0.0], steps.cumsum()])
        curve += wanted[-1] - np.interp(known[-1], values, curve)
        columns.append(values + strength * (curve - values))
    return np.rint(np.stack(columns, 1)).clip(0, 255).astype(np.uint8)


def _anchors(scanner: Mapping, channel: str) -> np.ndarray:
    """Values of a scanner that ascend: black, those below which known shares of its items are, and its white."""
    white = scanner["white"][channel]
    values = np.minimum.accumulate(np.array([*scanner[channel], white])[::-1])[::-1]
    # equal values are taken apart by too little to see, so that each has one place on the curve
    return np.concatenate([[0.0], values]) + np.arange(len(values) + 1) * 1e-3
