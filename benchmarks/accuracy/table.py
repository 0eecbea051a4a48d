"""From finished jobs to the table: mean and spread of the seeds, and the interval over images."""

import json
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

from benchmarks.accuracy.job import Job
from xray_lazy.analysis.comparison import intervals
from xray_lazy.analysis.inputs import inputs_of_files
from xray_lazy.analysis.screening.screening import screen_inputs

RARE = 100  # instances in training, fewer
RARE_AP50 = "AP50 of rare classes"
AP50_OF = "AP50 class "
FALSE_ALARMS = 0.01
DETECTION = f"P_D at {FALSE_ALARMS:.0%} false alarms"


@dataclass
class Result:
    """One finished job.

    Attributes:
        row, seed: what it was.
        budget: "10 minutes" or "1200 iterations".
        facts: what its trainer says of it: `seconds` of processor time, `parameters`, ...
        figures: by protocol, each metric's value and its bounds, percent.
    """

    row: str
    seed: int
    budget: str
    facts: dict
    figures: dict[str, dict[str, tuple[float, float, float]]]


def place_of(results: Path, budget: str, row: str, seed: int) -> Path:
    """The folder of a job."""
    return results / budget.replace(" ", "_") / row / f"seed_{seed}"


def read_results(results: Path) -> list[Result]:
    """All finished jobs below a folder; what is once computed stays in each job's `figures.json`."""
    found = []
    for path in sorted(results.glob("*/*/seed_*/training.json")):
        folder = path.parent
        budget, row, seed = folder.parts[-3:]
        figures = folder / "figures.json"
        if not figures.is_file():
            figures.write_text(json.dumps(_figures(folder)))
        found.append(
            Result(
                row,
                int(seed.removeprefix("seed_")),
                budget.replace("_", " "),
                json.loads(path.read_text()),
                json.loads(figures.read_text()),
            )
        )
    return found


def _figures(folder: Path) -> dict[str, dict[str, tuple[float, float, float]]]:
    job = Job.load(str(folder / "job.json"))
    detections = json.loads((folder / "detections.json").read_text())
    counts = Counter(one["category_id"] for one in json.loads(Path(job.train).read_text())["annotations"])
    figures = {}
    for protocol, path in job.tests.items():
        truth = json.loads(Path(path).read_text())
        tested = {image["id"] for image in truth["images"]}
        found = [detection for detection in detections if detection["image_id"] in tested]
        if not found:
            figures[protocol] = {}
            continue
        groups = {f"{AP50_OF}{category['name']}": [category["id"]] for category in truth["categories"]}
        rare = [category["id"] for category in truth["categories"] if counts[category["id"]] < RARE]
        if len(rare) < len(truth["categories"]):  # else it says nothing more
            groups[RARE_AP50] = rare
        figures[protocol] = intervals(truth, found) | _of_groups(truth, found, groups)
        if tested - {annotation["image_id"] for annotation in truth["annotations"]}:
            figures[protocol][DETECTION] = _detection(folder / f"detections_{protocol}.json", path, found)
    return figures


def _of_groups(truth: dict, found: list[dict], groups: dict[str, list[int]]) -> dict[str, tuple[float, float, float]]:
    """AP50 of each group of classes that has annotations; without a detection it is 0."""
    figures = {}
    for name, ids in groups.items():
        annotations = [annotation for annotation in truth["annotations"] if annotation["category_id"] in ids]
        if annotations:
            categories = [category for category in truth["categories"] if category["id"] in ids]
            part = {**truth, "annotations": annotations, "categories": categories}
            of_classes = [detection for detection in found if detection["category_id"] in ids]
            figures[name] = intervals(part, of_classes)["AP50"] if of_classes else (0.0, 0.0, 0.0)
    return figures


def _detection(file: Path, truth: str, found: list[dict]) -> tuple[float, float, float]:
    """P_D at `FALSE_ALARMS`, with its interval."""
    file.write_text(json.dumps(found))
    (point,) = screen_inputs(inputs_of_files(file, truth), rates=[FALSE_ALARMS]).overall.points
    return 100 * point.detection, 100 * point.detection_low, 100 * point.detection_high


def markdown(results: list[Result]) -> str:
    """For each protocol and budget a table, best row first, and one of the classes."""
    groups: dict[tuple[str, str], dict[str, list[Result]]] = defaultdict(lambda: defaultdict(list))
    for result in results:
        for protocol in result.figures:
            groups[protocol, result.budget][result.row].append(result)
    lines = []
    for (protocol, budget), rows in sorted(groups.items()):
        ranked = sorted(rows.items(), key=lambda item: -mean(_values(item[1], protocol, "AP")))
        present = {name for of_row in rows.values() for result in of_row for name in result.figures[protocol]}
        more = [name for name in (RARE_AP50, DETECTION) if name in present]
        titles = "".join(f" {name} |" for name in more)
        lines += [
            f"### {protocol}, {budget}",
            "",
            f"| row | seeds | box AP | spread | interval over images | AP50 |{titles} parameters | processor time |",
            "|---|---|---|---|---|---|---|---|" + "---|" * len(more),
            *(_line(row, protocol, of_row, more) for row, of_row in ranked),
            "",
        ]
        if by_class := sorted(name for name in present if name.startswith(AP50_OF)):
            lines += [
                "AP50 by class:",
                "",
                f"| row | {' | '.join(name.removeprefix(AP50_OF) for name in by_class)} |",
                "|---" * (1 + len(by_class)) + "|",
                *(f"| {row} | {' | '.join(_means(of_row, protocol, by_class))} |" for row, of_row in ranked),
                "",
            ]
    return "\n".join(lines)


def _line(row: str, protocol: str, results: list[Result], more: list[str]) -> str:
    values = _values(results, protocol, "AP")
    bounds = [mean(_values(results, protocol, "AP", place)) for place in (1, 2)]
    cells = [
        row,
        len(results),
        f"{mean(values):.1f}",
        f"+-{stdev(values):.1f}" if len(values) > 1 else "one seed",
        f"{bounds[0]:.1f} to {bounds[1]:.1f}",
        *_means(results, protocol, ["AP50", *more]),
        f"{results[0].facts['parameters'] / 1e6:.1f} M",
        f"{mean(result.facts['seconds'] for result in results) / 60:.1f} min",
    ]
    return f"| {' | '.join(map(str, cells))} |"


def _means(results: list[Result], protocol: str, metrics: list[str]) -> list[str]:
    """Of all seeds, of each metric."""
    return [f"{mean(_values(results, protocol, metric)):.1f}" for metric in metrics]


def _values(results: list[Result], protocol: str, metric: str, place: int = 0) -> list[float]:
    """Of each result: the metric (place 0) or a bound of its interval (1, 2); nothing detected counts as 0."""
    return [result.figures[protocol].get(metric, (0.0, 0.0, 0.0))[place] for result in results]
