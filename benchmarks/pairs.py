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
    name: str,
    unit: str,
    ours: Callable[[], object],
    theirs: Callable[[], object],
    units: int,
    pairs: int = 7,
    calls: int = 1,
) -> Comparison:
    """Time `ours` and `theirs` alternately, after a warm-up of each pair.

    Args:
        units: of work that one call does.
        calls: of each, in turns, that make a pair; many short ones meet the same noise of the machine.
    """
    _times_of_pair(ours, theirs, 0, calls)
    times = [_times_of_pair(ours, theirs, pair, calls) for pair in range(pairs)]
    units *= calls
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


def seconds_in_turns(steps: dict[str, Callable[[], object]], units: int, rounds: int) -> dict[str, list[float]]:
    """Processor time of each step per unit of its work, in rounds in which all take turns, after one that warms up."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds + 1):
        for name, step in steps.items():
            start = time.process_time()
            step()
            times[name].append((time.process_time() - start) / units)
    return {name: values[1:] for name, values in times.items()}


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


def _times_of_pair(ours: Callable, theirs: Callable, pair: int, calls: int) -> tuple[float, float]:
    our_time = their_time = 0.0
    for number in range(pair, pair + calls):  # each goes first in half of them
        if number % 2:
            their_time += _seconds(theirs)
            our_time += _seconds(ours)
        else:
            our_time += _seconds(ours)
            their_time += _seconds(theirs)
    return our_time, their_time


def _seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start
