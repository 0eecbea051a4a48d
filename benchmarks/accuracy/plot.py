"""AP over processor time: each point is a training of that length, whose schedule ends there.

`python -m benchmarks.accuracy.plot TRAININGS.csv PLOT.png`; `python -m benchmarks.accuracy --csv` writes the file.
"""

import csv
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import mean

from benchmarks.accuracy.rows import ROWS
from benchmarks.accuracy.table import Result

TITLES = {"in_domain": "scanners of the training", "new_scanner": "a scanner that training never saw"}


@dataclass(frozen=True)
class Training:
    """A line of the file.

    Attributes:
        row: of the table.
        start: "ImageNet" or "nothing".
        minutes: of processor time.
        in_domain, new_scanner: box AP in percent; None where it was not measured.
    """

    row: str
    start: str
    seed: int
    minutes: float
    in_domain: float | None
    new_scanner: float | None


def write_csv(results: Sequence[Result], path: Path) -> None:
    """Write a line for each finished training; a protocol without detections has 0."""
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, [field.name for field in fields(Training)], lineterminator="\n")
        writer.writeheader()
        for result in results:
            values = {
                name: round(result.figures[name].get("AP", (0.0,))[0], 2) if name in result.figures else None
                for name in TITLES
            }
            minutes = round(result.facts["seconds"] / 60, 1)
            start = "ImageNet" if ROWS[result.row].pretrained else "nothing"
            writer.writerow(asdict(Training(result.row, start, result.seed, minutes, **values)))


def read_csv(path: Path) -> list[Training]:
    """The trainings of a file."""
    with path.open(newline="") as stream:
        return [_training(line) for line in csv.DictReader(stream)]


def _training(line: dict[str, str]) -> Training:
    in_domain, new_scanner = (float(line[name]) if line[name] else None for name in TITLES)
    return Training(line["row"], line["start"], int(line["seed"]), float(line["minutes"]), in_domain, new_scanner)


def draw(trainings: Sequence[Training], path: Path) -> None:
    """Draw a panel for each protocol: a dot for each training, a line through the means of a row's lengths."""
    from matplotlib.figure import Figure

    rows = sorted(
        {one.row for one in trainings}, key=lambda row: -max(t.in_domain or 0 for t in trainings if t.row == row)
    )
    figure = Figure(figsize=(12, 4.6), dpi=110, layout="constrained")
    for axes, (protocol, title) in zip(figure.subplots(1, len(TITLES)), TITLES.items(), strict=True):
        for place, row in enumerate(rows):
            own = [one for one in trainings if one.row == row and getattr(one, protocol) is not None]
            if not own:
                continue
            style = {"color": f"C{place % 10}", "marker": "o" if own[0].start == "ImageNet" else "s"}
            label = f"{row}, from {own[0].start}"
            points = [(one.minutes, getattr(one, protocol)) for one in own]
            axes.plot(*zip(*_means(points), strict=True), label=label, linewidth=1.2, markersize=7, **style)
            axes.scatter(*zip(*points, strict=True), s=14, alpha=0.5, **style)
        axes.set(xlabel="minutes of one core", ylabel="box AP", title=title, xlim=(0, None), ylim=(0, None))
        axes.grid(alpha=0.3)
    labelled = {}
    for axes in figure.axes:
        labelled |= {label: line for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(labelled.values(), labelled.keys(), loc="outside right center", fontsize=9, frameon=False)
    figure.savefig(path)


def _means(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Of (minutes, AP): those of seeds, whose times differ a little, as one."""
    groups: list[list[tuple[float, float]]] = []
    for point in sorted(points):
        if groups and point[0] < 1.15 * groups[-1][0][0]:
            groups[-1].append(point)
        else:
            groups.append([point])
    return [(mean(minutes for minutes, _ in of), mean(ap for _, ap in of)) for of in groups]


if __name__ == "__main__":
    draw(read_csv(Path(sys.argv[1])), Path(sys.argv[2]))
