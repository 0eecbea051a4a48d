"""What an evaluation can show beyond numbers, as plain data: each writer makes of it what its place can show."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from xray_lazy.data.image_detections import Drawn

Drawing: TypeAlias = Callable[[], np.ndarray]


@dataclass(frozen=True)
class ComparedImage:
    """An image with its ground truth and detections, in the pixels of `image`, with masks as RLE of its size.

    Attributes:
        image: (H, W, 3) RGB, uint8.
        file_name: of the scan, without its folder.
        class_names: by class id.
        drawn: draws both, side by side, as (h, w, 3) RGB, uint8; called only by a writer that shows plain images.
    """

    image: np.ndarray
    file_name: str
    truth: Sequence[Drawn]
    detections: Sequence[Drawn]
    class_names: Sequence[str]
    drawn: Drawing


@dataclass(frozen=True)
class Images:
    """The same images of a data set at each evaluation."""

    images: Sequence[ComparedImage]


@dataclass(frozen=True)
class WorstImages:
    """The images with the most mistakes, the worst first; `found`, `missed` and `false` count items on each."""

    images: Sequence[ComparedImage]
    found: Sequence[int]
    missed: Sequence[int]
    false: Sequence[int]


@dataclass(frozen=True)
class ConfusionMatrix:
    """What was taken for what.

    Attributes:
        counts: (K, K) integers; rows are the truth, columns what was detected.
        names: of the K rows, the last one for the background: missed items are in its column, false ones in its row.
        drawn: draws it as (h, w, 3) RGB, uint8.
    """

    counts: np.ndarray
    names: Sequence[str]
    drawn: Drawing


@dataclass(frozen=True)
class PrecisionRecall:
    """Precision at each recall by class, for the classes that have instances.

    Attributes:
        recalls: (R,) ascending in 0..1, the same for all classes.
        precisions: class name to (R,) in 0..1; 0 where a recall isn't reached.
        scores: class name to (R,), the score from which on detections are counted there.
        instances: class name to the number of its instances.
    """

    recalls: np.ndarray
    precisions: Mapping[str, np.ndarray]
    scores: Mapping[str, np.ndarray]
    instances: Mapping[str, int]


@dataclass(frozen=True)
class RateCurve:
    """What is reached at what price, over all thresholds.

    Attributes:
        x, y: (N,), rising.
        names: of the two axes.
        drawn: draws it as (h, w, 3) RGB, uint8.
    """

    x: np.ndarray
    y: np.ndarray
    names: tuple[str, str]
    drawn: Drawing


Media: TypeAlias = Images | WorstImages | ConfusionMatrix | PrecisionRecall | RateCurve
