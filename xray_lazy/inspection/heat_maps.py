"""Maps of numbers over an image: features, attention, evidence."""

import cv2
import numpy as np

from xray_lazy.visualization.overlay import resized

# Over a grey scan all colours are the map's own, and over a dark one, bright means high; what is low leaves it visible.
GROUND_BRIGHTNESS = 0.6
OPACITY_LOW, OPACITY_HIGH = 0.2, 0.8


def draw_heat(
    image: np.ndarray, values: np.ndarray, enlargement: float = 1, limits: tuple[float, float] | None = None
) -> np.ndarray:
    """Draw values as colours, from dark to bright yellow, over the grey image.

    Args:
        image: (H, W, 3) BGR, uint8.
        values: (h, w) of any size, from the image's corner to corner.
        limits: what is darkest and brightest; by default the 2nd percentile and the maximum.

    Returns:
        (H * enlargement, W * enlargement, 3) BGR, uint8.
    """
    ground = resized(image, enlargement)
    grey = (
        cv2.cvtColor(cv2.cvtColor(ground, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR).astype(np.float32)
        * GROUND_BRIGHTNESS
    )
    low, high = limits or (float(np.percentile(values, 2)), float(values.max()))
    share = np.clip((values.astype(np.float32) - low) / max(high - low, 1e-12), 0, 1)
    share = cv2.resize(share, ground.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    colours = cv2.applyColorMap((share * 255).astype(np.uint8), cv2.COLORMAP_INFERNO).astype(np.float32)
    opacity = (OPACITY_LOW + (OPACITY_HIGH - OPACITY_LOW) * share)[..., None]
    return (grey * (1 - opacity) + colours * opacity).round().astype(np.uint8)


def draw_components(image_size: tuple[int, int], values: np.ndarray) -> np.ndarray:
    """Three values per place as red, green and blue: places of one colour look alike to the model.

    Args:
        image_size: (height, width) of the result.
        values: (h, w, 3).
    """
    low, high = np.percentile(values, (1, 99), axis=(0, 1))
    shares = np.clip((values - low) / np.maximum(high - low, 1e-12), 0, 1)
    image = (shares * 255).astype(np.uint8)
    return cv2.resize(image, image_size[::-1], interpolation=cv2.INTER_NEAREST)
