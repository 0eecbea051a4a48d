"""From finished jobs to the table: mean and spread of the seeds, and the interval over images."""

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

import numpy as np

from benchmarks.accuracy.job import Job
from xray_lazy.analysis.comparison import intervals


@dataclass
class Result:
    """One finished job.

    Attributes:
        protocol, row, seed, minutes: what it was.
        facts: what its trainer says of it: `seconds` of processor time, `parameters`, ...
        figures: each metric's value and its bounds, percent.
    """

    protocol: str
    row: str
    seed: int
    minutes: float
    facts: dict
    figures: dict[str, tuple[float, float, float]]


def place_of(results: Path, protocol: str, minutes: float, row: str, seed: int) -> Path:
    """The folder of a job."""
    return results / protocol / f"{minutes:g}_minutes" / row / f"seed_{seed}"


def read_results(results: Path) -> list[Result]:
    """All finished jobs below a folder; what is once computed stays in each job's `figures.json`."""
    found = []
    for path in sorted(results.glob("*/*_minutes/*/seed_*/training.json")):
        folder = path.parent
        protocol, minutes, row, seed = folder.parts[-4:]
        figures = folder / "figures.json"
        if not figures.is_file():
            job = Job.load(str(folder / "job.json"))
            detections = json.loads((folder / "detections.json").read_text())
            truth = json.loads(Path(job.test).read_text())
            figures.write_text(json.dumps(intervals(truth, detections) if detections else {}))
        found.append(
            Result(
                protocol,
                row,
                int(seed.removeprefix("seed_")),
                float(minutes.removesuffix("_minutes")),
                json.loads(path.read_text()),
                json.loads(figures.read_text()),
            )
        )
    return found


def markdown(results: list[Result]) -> str:
    """A table for each protocol and budget, best row first."""
    groups: dict[tuple[str, float], dict[str, list[Result]]] = defaultdict(lambda: defaultdict(list))
    for result in results:
        groups[result.protocol, result.minutes][result.row].append(result)
    lines = []
    for (protocol, minutes), rows in sorted(groups.items()):
        lines += [
            f"### {protocol}, {minutes:g} minutes",
            "",
            "| row | seeds | box AP | spread | interval over images | AP50 | parameters | processor time |",
            "|---|---|---|---|---|---|---|---|",
            *(_line(row, of_row) for row, of_row in sorted(rows.items(), key=lambda item: -_mean(item[1], "AP"))),
            "",
        ]
    return "\n".join(lines)


def _line(row: str, results: list[Result]) -> str:
    values = [_value(result, "AP") for result in results]
    spread = f"+-{stdev(values):.1f}" if len(values) > 1 else "one seed"
    bounds = [np.mean([result.figures.get("AP", (0, 0, 0))[place] for result in results]) for place in (1, 2)]
    cells = [
        row,
        len(results),
        f"{mean(values):.1f}",
        spread,
        f"{bounds[0]:.1f} to {bounds[1]:.1f}",
        f"{_mean(results, 'AP50'):.1f}",
        f"{results[0].facts['parameters'] / 1e6:.1f} M",
        f"{mean(result.facts['seconds'] for result in results) / 60:.1f} min",
    ]
    return f"| {' | '.join(map(str, cells))} |"


def _value(result: Result, metric: str) -> float:
    return result.figures.get(metric, (0.0, 0.0, 0.0))[0]


def _mean(results: list[Result], metric: str) -> float:
    return mean(_value(result, metric) for result in results)
