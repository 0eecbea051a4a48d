"""A curve of two rates as an image."""

import numpy as np

from xray_lazy.visualization.chart_text import chart_text

DOTS_PER_INCH = 110


def draw_rate_curve(x: np.ndarray, y: np.ndarray, names: tuple[str, str], title: str) -> np.ndarray:
    """Draw steps from (N,) `x`, which rises, to `y`; `names` are those of the axes. Gives (h, w, 3) RGB, uint8."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with chart_text():
        figure = Figure(figsize=(5.5, 4.2), dpi=DOTS_PER_INCH, layout="constrained")
        canvas = FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        axes.step(x, y, where="post", color="#4477AA")
        axes.set(xlabel=names[0], ylabel=names[1], title=title, ylim=(0, 102))
        axes.grid(alpha=0.3)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[..., :3].copy()
