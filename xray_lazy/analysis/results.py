"""What an analysis of detections finds, as plain values: the source of its files, tables, plots and of reports.

AP, AR and lost AP are in percent, all other shares in 0..1; NaN means that nothing could be measured.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Task = Literal["bbox", "segm"]
TOO_FEW = "too few images"  # as a verdict
SCHEMA = 2  # of analysis.json and comparison.json; it grows when a field changes its meaning or goes


@dataclass(frozen=True)
class Curve:
    """Precision, recall and F1 at IoU 0.5 when detections of at least `scores` are kept, the highest score first.

    `best` is the place of the highest F1; -1 in an empty curve, of a class without instances or detections.
    """

    scores: tuple[float, ...] = ()
    precision: tuple[float, ...] = ()
    recall: tuple[float, ...] = ()
    f1: tuple[float, ...] = ()
    best: int = -1

    @property
    def best_threshold(self) -> float:
        """The least score to keep for the highest F1; NaN where nothing is right at any."""
        return self.scores[self.best] if self.best_f1 > 0 else math.nan

    @property
    def best_f1(self) -> float:
        return self.f1[self.best] if self.scores else math.nan


@dataclass(frozen=True)
class ClassResult:
    """One class.

    Attributes:
        instances, images: without crowd regions, and the images that show one.
        detections: of this class, all scores.
        ap, ap50, ap75, ar: COCO's, percent.
        curve: by score; `curve.best_threshold` is the class's own best one.
        interpolated_precision: at the recalls 0, 0.01, ..., 1 at IoU 0.5, whose mean is AP50; empty without instances.
        errors: TIDE's by name; `Miss` counts items of this class, the others its detections, of all scores.
        errors_shown: of those that reach the analysis' score threshold.
        ece: expected calibration error.
    """

    name: str
    category_id: int
    instances: int
    images: int
    detections: int
    ap: float
    ap50: float
    ap75: float
    ar: float
    curve: Curve
    interpolated_precision: tuple[float, ...]
    errors: dict[str, int]
    errors_shown: dict[str, int]
    ece: float


@dataclass(frozen=True)
class ErrorKind:
    """One of TIDE's kinds of error.

    Attributes:
        name: Cls, Loc, Both, Dupe, Bkg or Miss.
        meaning: in words.
        count: over detections of all scores (for Miss: items).
        count_shown: of those that reach the analysis' score threshold (for Miss: the same as `count`).
        lost_ap: by how much AP50 would be higher without errors of this kind, in percent points (TIDE's dAP).
    """

    name: str
    meaning: str
    count: int
    count_shown: int
    lost_ap: float


@dataclass(frozen=True)
class Errors:
    """TIDE: which kinds of error cost how much of AP50 (Bolya et al., ECCV 2020).

    `lost_to_false` and `lost_to_missed` are TIDE's special errors: AP50 without any false detection, without any
    missed item, in percent points above `ap50`. The kinds do not add up to them, nor to 100.
    """

    ap50: float
    kinds: tuple[ErrorKind, ...]
    lost_to_false: float
    lost_to_missed: float
    foreground_iou: float = 0.5
    background_iou: float = 0.1


@dataclass(frozen=True)
class Confusion:
    """Counts; rows are the truth, columns the detections, the last of each is background: missed and made up."""

    names: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class CalibrationBin:
    """Detections whose scores are in [lower, upper): their mean score, and the share that is right at IoU 0.5."""

    lower: float
    upper: float
    count: int
    mean_score: float
    share_right: float


@dataclass(frozen=True)
class Calibration:
    """Whether a score of 0.8 is right in 8 of 10 cases.

    ece: the mean distance of score and share that is right, by detections; largest_error: of the worst bin.
    """

    ece: float
    largest_error: float
    bins: tuple[CalibrationBin, ...]

    @property
    def ece_by_chance(self) -> float:
        """What scores that are right as often as they say have on average: few detections in a bin lie beside it.

        The mean distance of a bin's share from its score, as of a normal distribution, weighted as in `ece`.
        """
        filled = [one for one in self.bins if one.count]
        distances = (math.sqrt(2 / math.pi * one.count * one.mean_score * (1 - one.mean_score)) for one in filled)
        return sum(distances) / sum(one.count for one in filled) if filled else math.nan


@dataclass(frozen=True)
class Group:
    """Some of the items: of a size, of a scanner, under so much of other items.

    Attributes:
        name: for people.
        images: that show one of the items; for scanners all of its images.
        found: share of the items that a detection of their class of at least the score threshold matches at IoU 0.5.
    """

    name: str
    instances: int
    images: int
    ap: float
    ap50: float
    ar: float
    found: float


@dataclass(frozen=True)
class ImageResult:
    """What is right and wrong on an image at the score threshold; `drawn` is its image in the analysis' folder."""

    image_id: int | str
    file_name: str
    found: int
    missed: int
    false: int
    f1: float
    drawn: str | None = None


@dataclass(frozen=True)
class LabelSuspect:
    """A detection so sure of itself that the ground truth may be what is wrong.

    Attributes:
        kind: "missing" (nothing is annotated there), "class" (an item of another class is), "location" (an item of its
            class is annotated with another box or mask).
        annotation_id, annotated_class: of the item in question; None where nothing is annotated.
        box: xywh pixels of the detection; annotated_box: of the item.
        iou: of the detection with the item.
        drawn: its image in the analysis' folder.
    """

    kind: Literal["missing", "class", "location"]
    image_id: int | str
    file_name: str
    score: float
    detected_class: str
    box: tuple[float, float, float, float]
    annotation_id: int | str | None = None
    annotated_class: str | None = None
    annotated_box: tuple[float, float, float, float] | None = None
    iou: float = 0.0
    drawn: str | None = None


@dataclass(frozen=True)
class TaskResult:
    """All that was found by boxes, or by masks.

    Attributes:
        summary: COCO's figures by name (AP, AP50, ..., AR100, ...), percent.
        score_threshold: that counts in `confusion`, `worst_pictures`, `ErrorKind.count_shown` and `Group.found`; the
            one of the highest F1 of all classes together where none was given.
        uncounted: how many detections are beyond the `max_detections` of their image and class.
        curve: of all classes together.
        worst_pictures: by F1, then by the number of mistakes; images without a mistake are not among them.
        label_suspects: the highest score first.
    """

    summary: dict[str, float]
    score_threshold: float
    uncounted: int
    classes: tuple[ClassResult, ...]
    curve: Curve
    errors: Errors
    confusion: Confusion
    calibration: Calibration
    by_size: tuple[Group, ...]
    by_scanner: tuple[Group, ...]
    by_occlusion: tuple[Group, ...]
    worst_pictures: tuple[ImageResult, ...]
    label_suspects: tuple[LabelSuspect, ...]

    @property
    def finds_nothing(self) -> bool:
        """Whether there are items, and no detection of any score is right at IoU 0.5."""
        return any(one.instances for one in self.classes) and not self.curve.best_f1 > 0


@dataclass(frozen=True)
class Analysis:
    """Detections against ground truth.

    Attributes:
        dataset: name of the ground truth.
        origin: of the detections: the folder of the evaluation, or their file.
        evaluation: that they are from, such as `xray_smith_val/iter_999`, or the file's name.
        instances: without crowd regions.
        images_without_detections: many of them tell that the detections are of a part of the ground truth.
        tasks: by `bbox` and, where ground truth and detections have masks, `segm`.
    """

    dataset: str
    origin: str
    evaluation: str
    images: int
    instances: int
    crowds: int
    detections: int
    images_without_detections: int
    max_detections: int
    class_names: tuple[str, ...]
    tasks: dict[str, TaskResult] = field(default_factory=dict)

    @property
    def main(self) -> TaskResult:
        """The masks' result where there is one, else the boxes'."""
        return self.tasks.get("segm") or self.tasks["bbox"]

    def as_json(self) -> dict[str, Any]:
        """As JSON has it: tuples as lists, None for what could not be measured."""
        return plain({"schema": SCHEMA, **asdict(self)})


@dataclass(frozen=True)
class Difference:
    """A metric of two runs on the same images, percent.

    Attributes:
        name: AP, AP50, AP75, AR, or `AP-<class>`.
        change: second minus first; `lower` and `upper` bound it with the comparison's confidence.
        verdict: "better", "worse" (the interval lies on one side of 0), "no difference shown", or `TOO_FEW`: the items
            are in so few bags that the interval says nothing.
    """

    name: str
    first: float
    second: float
    change: float
    lower: float
    upper: float
    verdict: str


@dataclass(frozen=True)
class Comparison:
    """Two runs on the same ground truth, by a paired bootstrap over its bags, or images that name no bag."""

    dataset: str
    first: str
    second: str
    images: int
    bags: int
    resamples: int
    confidence: float
    seed: int
    tasks: dict[str, tuple[Difference, ...]]

    def as_json(self) -> dict[str, Any]:
        """As JSON has it."""
        return plain({"schema": SCHEMA, **asdict(self)})


def plain(value: Any) -> Any:
    """A value as JSON can have it; NaN and infinity become None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(one) for one in value]
    return value
