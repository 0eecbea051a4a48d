"""Several images in one: ground truth beside prediction, and contact sheets."""

import math
from collections.abc import Sequence

import cv2
import numpy as np

from xray_lazy.utils.wording import printable
from xray_lazy.visualization.image_text import draw_text, text_size
from xray_lazy.visualization.overlay import text_height_for

BACKGROUND, TITLE_INK = (40, 40, 40), (240, 240, 240)


def side_by_side(
    left: np.ndarray, right: np.ndarray, titles: tuple[str, str] = ("ground truth", "prediction")
) -> np.ndarray:
    """Two BGR images (H, W, 3) beside each other under their titles; the smaller one is set on a dark ground."""
    height = max(left.shape[0], right.shape[0])
    text_height = text_height_for(left)
    gap = max(4, text_height // 2)
    columns = [
        with_title(_fill_up(p, height), title, text_height) for p, title in zip((left, right), titles, strict=True)
    ]
    divider = np.full((columns[0].shape[0], gap, 3), BACKGROUND, np.uint8)
    return np.hstack([columns[0], divider, columns[1]])


def contact_sheet(images: Sequence[np.ndarray], columns: int = 2, cell_width: int = 960) -> np.ndarray:
    """BGR images of any sizes in rows of equal cells, each as large as its cell allows.

    The cells have the shape of the middle one of the images, by their height to width.

    Raises:
        ValueError: there are no images.
    """
    if not images:
        raise ValueError("a contact sheet needs at least one image")
    columns = min(columns, len(images))
    gap = max(4, cell_width // 120)
    shape = sorted(image.shape[0] / image.shape[1] for image in images)[len(images) // 2]
    cell_height = max(1, round(cell_width * shape))
    rows = math.ceil(len(images) / columns)
    sheet = np.full(
        (rows * (cell_height + gap) + gap, columns * (cell_width + gap) + gap, 3), BACKGROUND, dtype=np.uint8
    )
    for index, image in enumerate(images):
        fitted = fit_into(image, cell_width, cell_height)
        height, width = fitted.shape[:2]
        y = gap + index // columns * (cell_height + gap) + (cell_height - height) // 2
        x = gap + index % columns * (cell_width + gap) + (cell_width - width) // 2
        sheet[y : y + height, x : x + width] = fitted
    return sheet


def fit_into(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """An image in its own proportions, as large as width x height allows."""
    factor = min(width / image.shape[1], height / image.shape[0])
    size = max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC)


def with_title(image: np.ndarray, title: str, text_height: int | None = None) -> np.ndarray:
    """A BGR image (H, W, 3) under a line of text, which is cut where it is too long.

    Args:
        text_height: of the letters, pixels; by default what reads well at the image's size.
    """
    text_height = text_height or text_height_for(image)
    strip = np.full((2 * text_height + 2, image.shape[1], 3), BACKGROUND, np.uint8)
    room = image.shape[1] - text_height
    title = printable(title)
    while len(title) > 4 and text_size(title, text_height)[0] > room:
        title = title.removesuffix("...")[:-1].rstrip() + "..."
    baseline = (text_height // 2, text_height + text_height // 2)
    draw_text(strip, title, baseline, TITLE_INK, text_height)
    return np.vstack([strip, image])


def _fill_up(image: np.ndarray, height: int) -> np.ndarray:
    missing = height - image.shape[0]
    return cv2.copyMakeBorder(image, 0, missing, 0, 0, cv2.BORDER_CONSTANT, value=BACKGROUND)
