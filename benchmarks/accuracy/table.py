"""From finished jobs to the table: mean and spread of the seeds, and the interval over images."""

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

from benchmarks.accuracy.job import Job
from xray_lazy.analysis.comparison import intervals


@dataclass
class Result:
    """One finished job.

    Attributes:
        row, seed, minutes: what it was.
        facts: what its trainer says of it: `seconds` of processor time, `parameters`, ...
        figures: by protocol, each metric's value and its bounds, percent.
    """

    row: str
    seed: int
    minutes: float
    facts: dict
    figures: dict[str, dict[str, tuple[float, float, float]]]


def place_of(results: Path, minutes: float, row: str, seed: int) -> Path:
    """The folder of a job."""
    return results / f"{minutes:g}_minutes" / row / f"seed_{seed}"


def read_results(results: Path) -> list[Result]:
    """All finished jobs below a folder; what is once computed stays in each job's `figures.json`."""
    found = []
    for path in sorted(results.glob("*_minutes/*/seed_*/training.json")):
        folder = path.parent
        minutes, row, seed = folder.parts[-3:]
        figures = folder / "figures.json"
        if not figures.is_file():
            figures.write_text(json.dumps(_figures(folder)))
        found.append(
            Result(
                row,
                int(seed.removeprefix("seed_")),
                float(minutes.removesuffix("_minutes")),
                json.loads(path.read_text()),
                json.loads(figures.read_text()),
            )
        )
    return found


def _figures(folder: Path) -> dict[str, dict[str, tuple[float, float, float]]]:
    detections = json.loads((folder / "detections.json").read_text())
    figures = {}
    for protocol, path in Job.load(str(folder / "job.json")).tests.items():
        truth = json.loads(Path(path).read_text())
        tested = {image["id"] for image in truth["images"]}
        of_part = [detection for detection in detections if detection["image_id"] in tested]
        figures[protocol] = intervals(truth, of_part) if of_part else {}
    return figures


def markdown(results: list[Result]) -> str:
    """A table for each protocol and budget, best row first."""
    groups: dict[tuple[str, float], dict[str, list[Result]]] = defaultdict(lambda: defaultdict(list))
    for result in results:
        for protocol in result.figures:
            groups[protocol, result.minutes][result.row].append(result)
    lines = []
    for (protocol, minutes), rows in sorted(groups.items()):
        ranked = sorted(rows.items(), key=lambda item: -mean(_values(item[1], protocol, "AP")))
        lines += [
            f"### {protocol}, {minutes:g} minutes",
            "",
            "| row | seeds | box AP | spread | interval over images | AP50 | parameters | processor time |",
            "|---|---|---|---|---|---|---|---|",
            *(_line(row, protocol, of_row) for row, of_row in ranked),
            "",
        ]
    return "\n".join(lines)


def _line(row: str, protocol: str, results: list[Result]) -> str:
    values = _values(results, protocol, "AP")
    bounds = [mean(_values(results, protocol, "AP", place)) for place in (1, 2)]
    cells = [
        row,
        len(results),
        f"{mean(values):.1f}",
        f"+-{stdev(values):.1f}" if len(values) > 1 else "one seed",
        f"{bounds[0]:.1f} to {bounds[1]:.1f}",
        f"{mean(_values(results, protocol, 'AP50')):.1f}",
        f"{results[0].facts['parameters'] / 1e6:.1f} M",
        f"{mean(result.facts['seconds'] for result in results) / 60:.1f} min",
    ]
    return f"| {' | '.join(map(str, cells))} |"


def _values(results: list[Result], protocol: str, metric: str, place: int = 0) -> list[float]:
    """Of each result: the metric (place 0) or a bound of its interval (1, 2); nothing detected counts as 0."""
    return [result.figures[protocol].get(metric, (0.0, 0.0, 0.0))[place] for result in results]
