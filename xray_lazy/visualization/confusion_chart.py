"""A confusion matrix as a picture: shares of each row as colour, counts as numbers."""

from collections.abc import Sequence

import numpy as np

INCHES_PER_CELL, DOTS_PER_INCH = 0.62, 110
LONGEST_NAME = 18


def draw_confusion_matrix(counts: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Draw a matrix whose rows are the truth and whose columns are the detections.

    Args:
        counts: (K, K) integers.
        names: of the rows and columns.

    Returns:
        (h, w, 3) RGB, uint8; about 70 pixels per class and side.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    side = len(names) * INCHES_PER_CELL + 2.2
    figure = Figure(figsize=(side, side), dpi=DOTS_PER_INCH, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    shown = [name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…" for name in names]
    axes.set_xticks(range(len(names)), shown, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), shown)
    axes.set_xlabel("detected as")
    axes.set_ylabel("truth")
    for row, column in np.argwhere(counts):
        ink = "white" if shares[row, column] > 0.55 else "black"
        axes.text(column, row, f"{counts[row, column]:d}", ha="center", va="center", color=ink, fontsize=9)
    # what nothing stands against is apart from the classes
    for line in (axes.axhline, axes.axvline):
        line(len(names) - 1.5, color="grey", linewidth=0.8)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
