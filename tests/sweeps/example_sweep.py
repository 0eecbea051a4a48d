"""A sweep with trials of all kinds, whose values follow from a formula: the learning rate decides."""

import datetime
import math
import random
from pathlib import Path

from xray_lazy.sweeps.sweep_file import Sweep, parse_sweep
from xray_lazy.sweeps.trials import Trial

DOCUMENT = {
    "method": "bayes",
    "metric": {"name": "segm/AP", "goal": "maximize"},
    "parameters": {
        "optimizer.lr": {"distribution": "log_uniform_values", "min": 1e-5, "max": 1e-2},
        "dataloader.train.total_batch_size": {"values": [2, 4, 8]},
        "train.clip_gradients.max_norm": {"min": 0.1, "max": 10.0},
        "train.freeze": {"values": [None, ["backbone"]]},
        "train.seed": {"value": 3},
    },
}


def example_sweep(**changes) -> Sweep:
    return parse_sweep({**DOCUMENT, **changes}, "example")


def example_trials(sweep: Sweep, folder: Path, count: int = 20) -> list[Trial]:
    """Every fifth trial is pruned, the eighth has failed, the last one runs."""
    chance = random.Random(0)
    return [_trial(sweep, folder, number, chance, running=number == count - 1) for number in range(count)]


def _trial(sweep: Sweep, folder: Path, number: int, chance: random.Random, running: bool) -> Trial:
    parameters = {key: parameter.at(chance.random()) for key, parameter in sweep.parameters.items()}
    value = 40 - 5 * (math.log10(parameters["optimizer.lr"]) + 3) ** 2 + 0.1 * chance.random()
    curve = {100 * n - 1: value * (1 - math.exp(-n / 3)) for n in range(1, 10)}
    state, reason = "finished", ""
    if number % 5 == 4:
        state, reason, curve = "pruned", "worse than others", dict(list(curve.items())[:3])
    if number == 7:
        state, reason, curve = "failed", "CUDA out of memory.\nTried to allocate 2 GiB", {}
    state = "running" if running else state
    start = datetime.datetime(2030, 1, 1) + datetime.timedelta(minutes=10 * number)
    return Trial(
        number=number,
        state=state,
        parameters=parameters,
        folder=folder / f"{number:04d}",
        reason=reason,
        value=value if state == "finished" else None,
        intermediate_values=curve,
        started=start,
        ended=None if running else start + datetime.timedelta(minutes=7.5),
        worker="host:1",
    )
