"""What people see of images that are no 8-bit colours: grey, or a scanner's colours of two energies."""

import cv2
import numpy as np

from xray_lazy.data.synthetic.beam_detector import pseudo_colour
from xray_lazy.data.synthetic.profiles import PROFILES


def scanner_colours(attenuation: np.ndarray) -> np.ndarray:
    """Organic things orange, mixed and inorganic ones green, metal blue, and air white: (H, W, 3) uint8 BGR.

    Args:
        attenuation: -ln of the transmission at the low and the high energy, (H, W, 2) float32.
    """
    low, high = (np.ascontiguousarray(plane, np.float32) for plane in np.moveaxis(attenuation, 2, 0))
    return pseudo_colour(np.stack([low, high]), PROFILES["demo"])


def grey_picture(seen: np.ndarray) -> np.ndarray:
    """Grey, or blue, green and red, from (H, W, 1 or 3) of 0 to 1: (H, W, 3) uint8 BGR."""
    levels = np.rint(255 * seen.clip(0, 1)).astype(np.uint8)
    return cv2.cvtColor(levels, cv2.COLOR_GRAY2BGR) if levels.shape[2] == 1 else np.ascontiguousarray(levels)
