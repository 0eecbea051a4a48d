"""Compare two ways of doing the same work: alternating pairs in one process, ratio of each pair, median and spread."""

import json
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch


@dataclass(frozen=True)
class Comparison:
    """What was compared; seconds are per unit of work, `ratio` is theirs / ours: above 1 we are faster."""

    name: str
    unit: str
    ours_seconds: float
    theirs_seconds: float
    ratio: float
    ratio_low: float
    ratio_high: float
    pairs: int


def compare(
    name: str, unit: str, ours: Callable[[], object], theirs: Callable[[], object], units: int, pairs: int = 7
) -> Comparison:
    """Time `ours` and `theirs` alternately, after one warm-up of each; both do `units` units of work a call."""
    ours(), theirs()
    times = []
    for number in range(pairs):
        order = (ours, theirs) if number % 2 == 0 else (theirs, ours)
        seconds = {function: _seconds(function) for function in order}
        times.append((seconds[ours], seconds[theirs]))
    ratios = sorted(their / our for our, their in times)
    return Comparison(
        name,
        unit,
        ours_seconds=statistics.median(our for our, _ in times) / units,
        theirs_seconds=statistics.median(their for _, their in times) / units,
        ratio=statistics.median(ratios),
        ratio_low=ratios[0],
        ratio_high=ratios[-1],
        pairs=pairs,
    )


def report(comparisons: list[Comparison], path: Path) -> None:
    """Print a table and write the numbers with the machine's kind as JSON."""
    from tabulate import tabulate

    rows = [
        [c.name, c.unit, f"{c.ours_seconds * 1e3:.1f}", f"{c.theirs_seconds * 1e3:.1f}",
         f"{c.ratio:.2f}", f"{c.ratio_low:.2f}-{c.ratio_high:.2f}"]
        for c in comparisons
    ]  # fmt: skip
    print(tabulate(rows, headers=["work", "unit", "ours ms", "peer ms", "peer/ours", "spread"], disable_numparse=True))
    machine = {"processor": platform.processor() or platform.machine(), "threads": torch.get_num_threads()}
    machine |= {"python": platform.python_version(), "torch": torch.__version__}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machine": machine, "results": [asdict(c) for c in comparisons]}, indent=2) + "\n")
    print(f"written to {path}")


def _seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start
