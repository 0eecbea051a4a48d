"""A confusion matrix as an image: shares of each row as colour, counts as numbers."""

import math
from collections.abc import Sequence

import numpy as np

from xray_lazy.utils.wording import printable
from xray_lazy.visualization.chart_text import chart_text

INCHES_PER_CELL, DOTS_PER_INCH = 0.62, 110
LONGEST_SIDE = 24  # inches of the matrix: where there are more classes, their cells are smaller
# Cells below this have no room for a number, and only some of the names that are closer than that are shown.
LEAST_NUMBERED, LEAST_BETWEEN_NAMES = 0.28, 0.15
LONGEST_NAME = 18


def draw_confusion_matrix(counts: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Draw a matrix whose rows are the truth and whose columns are the detections.

    Args:
        counts: (K, K) integers.
        names: of the rows and columns.

    Returns:
        (h, w, 3) RGB, uint8; about 70 pixels per class and side, of many classes 2900 pixels in all.
    """
    with chart_text():
        return _draw(counts, names)


def _draw(counts: np.ndarray, names: Sequence[str]) -> np.ndarray:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    cell = min(INCHES_PER_CELL, LONGEST_SIDE / len(names))
    side = len(names) * cell + 2.2
    figure = Figure(figsize=(side, side), dpi=DOTS_PER_INCH, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    names = [printable(name) for name in names]
    shown = [name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…" for name in names]
    named = range(0, len(names), math.ceil(LEAST_BETWEEN_NAMES / cell))
    axes.set_xticks(named, shown[:: named.step], rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(named, shown[:: named.step])
    axes.set_xlabel("detected as")
    axes.set_ylabel("truth")
    style = {"ha": "center", "va": "center", "fontsize": 9 * cell / INCHES_PER_CELL, "in_layout": False}
    for row, column in np.argwhere(counts) if cell >= LEAST_NUMBERED else ():
        ink = "white" if shares[row, column] > 0.55 else "black"
        axes.text(column, row, f"{counts[row, column]:d}", color=ink, **style)
    # the row and column of unmatched items are apart from the classes
    for line in (axes.axhline, axes.axvline):
        line(len(names) - 1.5, color="grey", linewidth=0.8)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
