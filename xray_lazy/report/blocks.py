"""What a report's page is made of: tabs of figures, tables, charts, matrices, images, remarks; no markup."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

# Series of more points are thinned: a screen has fewer columns, and the page stays small.
MOST_POINTS = 400
DIGITS = 5


@dataclass(frozen=True)
class Fact:
    """A number in large letters, what it is, and a remark below it."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Facts:
    kind: ClassVar[str] = "facts"
    facts: Sequence[Fact]
    title: str = ""


@dataclass(frozen=True)
class Cell:
    """A table's cell.

    Attributes:
        value: the number behind the text, by which rows are sorted; None sorts last, without one the text counts.
        share: 0..1, drawn as a bar below the text, or as the colour of the cell in a heat map.
        tone: of a difference that is for the better or the worse.
        code: set in the font of code.
    """

    text: str
    value: float | None = None
    share: float | None = None
    tone: Literal["", "good", "bad", "quiet"] = ""
    code: bool = False


@dataclass(frozen=True)
class Table:
    """Columns of numbers are set flush right; `filterable` puts a search field above, `folded` shows the title only,
    `heat_map` colours cells by their share."""

    kind: ClassVar[str] = "table"
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    text: str = ""
    sortable: bool = False
    filterable: bool = False
    folded: bool = False
    heat_map: bool = False

    def is_numeric(self, column: int) -> bool:
        cells = [row[column] for row in self.rows]
        return any(cell.value is not None for cell in cells)


@dataclass(frozen=True)
class Series:
    """A line of a chart; `colour` is an index of the page's palette, by default its place among the series."""

    name: str
    x: Sequence[float]
    y: Sequence[float | None]
    colour: int | None = None
    dashed: bool = False
    hidden: bool = False


@dataclass(frozen=True)
class Chart:
    """Lines over a common axis, or with `bars` groups of bars over named places.

    Attributes:
        x_range, y_range: fixed ends of an axis, for shares.
        log: the vertical axis may be switched to logarithmic, "on" starts so.
        diagonal: draw y = x, where a perfect thing would lie.
        names: of the places of bars; x of the series are their indices.
        wide: takes the page's whole width.
    """

    kind: ClassVar[str] = "chart"
    title: str
    series: Sequence[Series]
    x_label: str = "iterations"
    y_label: str = ""
    text: str = ""
    x_range: tuple[float, float] | None = None
    y_range: tuple[float, float] | None = None
    log: Literal["", "off", "on"] = ""
    diagonal: bool = False
    bars: bool = False
    names: Sequence[str] = ()
    wide: bool = False

    def content(self) -> dict:
        """What the page's program draws."""
        return {
            "title": self.title,
            "xLabel": self.x_label,
            "yLabel": self.y_label,
            "xRange": self.x_range,
            "yRange": self.y_range,
            "log": self.log,
            "diagonal": self.diagonal,
            "bars": self.bars,
            "names": list(self.names),
            "series": [_series_content(series, index) for index, series in enumerate(self.series)],
        }


@dataclass(frozen=True)
class Charts:
    """Charts in as many columns as fit, more of them where they are `small`."""

    kind: ClassVar[str] = "charts"
    charts: Sequence[Chart]
    title: str = ""
    text: str = ""
    small: bool = False


@dataclass(frozen=True)
class Matrix:
    """Counts of what was taken for what: rows are the truth, columns the detections."""

    kind: ClassVar[str] = "matrix"
    title: str
    names: Sequence[str]
    counts: Sequence[Sequence[int]]
    text: str = ""

    def shares(self) -> list[list[float]]:
        """Of each row's sum, for the cells' shade."""
        return [[count / max(1, sum(row)) for count in row] for row in self.counts]


@dataclass(frozen=True)
class Shot:
    """An image as a data URI with what it shows in words, and its size in pixels."""

    source: str
    caption: str
    width: int
    height: int


@dataclass(frozen=True)
class ImageRow:
    """Views of one scan beside each other."""

    title: str
    note: str
    shots: Sequence[Shot]


@dataclass(frozen=True)
class Images:
    kind: ClassVar[str] = "images"
    title: str
    rows: Sequence[ImageRow]
    text: str = ""


@dataclass(frozen=True)
class Bag:
    """A bag by its name, with the score that decides about it, None for none, and perhaps an image."""

    name: str
    score: float | None
    shot: Shot | None = None

    def content(self) -> dict:
        shot = self.shot and {"source": self.shot.source, "caption": self.shot.caption}
        return {"name": self.name, "score": _short(self.score)} | ({"shot": shot} if shot else {})


@dataclass(frozen=True)
class ThresholdChoice:
    """A slider over thresholds, falling, with what each of them gives.

    Attributes:
        false_counts, detected_counts: of the `clean` bags and of the `threats`, at each threshold.
        start: the threshold that is shown first.
        missed: bags with a threat; those that a threshold misses are the first ones.
        false: clean bags; those that alarm at a threshold are the first ones.
    """

    kind: ClassVar[str] = "threshold_choice"
    title: str
    text: str
    thresholds: Sequence[str]
    false_counts: Sequence[int]
    detected_counts: Sequence[int]
    clean: int
    threats: int
    start: int
    missed: Sequence[Bag]
    false: Sequence[Bag]

    def content(self) -> dict:
        """What the page's program shows."""
        return {
            "thresholds": list(self.thresholds),
            "falseCounts": list(self.false_counts),
            "detectedCounts": list(self.detected_counts),
            "clean": self.clean,
            "threats": self.threats,
            "missed": [bag.content() for bag in self.missed],
            "false": [bag.content() for bag in self.false],
        }


@dataclass(frozen=True)
class Note:
    """A remark, such as what is missing and how to get it."""

    kind: ClassVar[str] = "note"
    text: str
    fix: str = ""
    warning: bool = False


@dataclass(frozen=True)
class Findings:
    """Sentences that a reader should not miss."""

    kind: ClassVar[str] = "findings"
    title: str
    sentences: Sequence[str]


@dataclass(frozen=True)
class Code:
    kind: ClassVar[str] = "code"
    title: str
    content: str
    text: str = ""


@dataclass(frozen=True)
class Heading:
    kind: ClassVar[str] = "heading"
    title: str
    text: str = ""


Block = Facts | Table | Chart | Charts | Matrix | Images | ThresholdChoice | Note | Findings | Code | Heading


@dataclass(frozen=True)
class Tab:
    """A part of the page; `id` stands in its address."""

    id: str
    title: str
    blocks: Sequence[Block] = field(default_factory=list)


def thinned(x: Sequence[float], y: Sequence[float | None]) -> tuple[list[float], list[float | None]]:
    """At most `MOST_POINTS` points: each the mean of as many neighbours as that takes, at the last one's place."""
    step = -(-len(x) // MOST_POINTS)
    if step <= 1:
        return list(x), [_short(value) for value in y]
    places, values = [], []
    for first in range(0, len(x), step):
        present = [value for value in y[first : first + step] if value is not None]
        places.append(x[min(first + step, len(x)) - 1])
        values.append(_short(sum(present) / len(present)) if present else None)
    return places, values


def _series_content(series: Series, index: int) -> dict:
    x, y = thinned(series.x, series.y)
    colour = index if series.colour is None else series.colour
    look = {"colour": colour, "dashed": series.dashed, "hidden": series.hidden}
    return {"name": series.name, "x": [_short(value) for value in x], "y": y, **look}


def _short(value: float | None) -> float | None:
    """Fewer digits than a screen can show make the page larger for nothing."""
    if value is None or value != value or value in (float("inf"), float("-inf")):
        return None
    return value if isinstance(value, int) else float(f"{value:.{DIGITS}g}")
