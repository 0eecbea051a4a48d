"""Progress as one line of the log: where the run is, losses, AP, learning rate, speed, time to go."""

import datetime
import logging
import math
import re

from detectron2.utils.events import EventStorage, get_event_storage

from xray_lazy.tracking.writer import Writer

logger = logging.getLogger(__name__)

TASK_NAMES = {"bbox": "box", "segm": "mask"}
SCREENED = re.compile(r"screening([^/]*)/P_D@([\d.]+)")


class ConsoleWriter(Writer):
    """Log progress through Python's logging, so that `log.txt` has it too.

    Args:
        max_iter: the run's number of iterations.
        window_size: iterations over which losses and times are replaced by their median.
        period: in iterations.
    """

    def __init__(self, max_iter: int, window_size: int = 20, period: int | None = None):
        self.period = period
        self._max_iter = max_iter
        self._window_size = window_size
        self._last_iteration = -1

    def write(self) -> None:
        storage = get_event_storage()
        if not self._last_iteration < storage.iter < self._max_iter:
            return
        self._last_iteration = storage.iter
        values = {name: value for name, (value, _) in storage.latest_with_smoothing_hint(self._window_size).items()}
        logger.info("%s", self._line(storage, values))

    def _line(self, storage: EventStorage, values: dict[str, float]) -> str:
        width = len(str(self._max_iter))
        parts = [f"[{storage.iter + 1:{width}}/{self._max_iter}]"]
        if "epoch" in values:
            parts.append(f"epoch {values['epoch']:.2f}")
        parts += [_losses(values), _average_precisions(values), _screening(values)]
        if "lr" in values:
            parts.append(f"lr {values['lr']:.2e}")
        parts += [_speed(values), _memory(values), _time_to_go(values)]
        return "  ".join(part for part in parts if part)


def _losses(values: dict[str, float]) -> str:
    """The total and its terms; the terms of inner decoder stages, `loss_ce_0` and so on, are summed as `stages`."""
    terms = {n: v for n, v in values.items() if "loss" in n and "/" not in n and n != "total_loss"}
    if not terms and "total_loss" not in values:
        return ""
    total = f"loss {_digits(values.get('total_loss', sum(terms.values())))}"
    shown: dict[str, float] = {}
    for name, value in terms.items():
        short = "stages" if re.search(r"_\d+$", name) else re.sub(r"^loss_|_loss$", "", name)
        shown[short] = shown.get(short, 0.0) + value
    if len(terms) < 2:
        return total
    return f"{total} ({', '.join(f'{name} {_digits(value)}' for name, value in shown.items())})"


def _digits(value: float) -> str:
    """Three significant digits, trailing zeros kept so that lines stay aligned."""
    return f"{value:#.3g}".rstrip(".")


def _average_precisions(values: dict[str, float]) -> str:
    """Of the set that is evaluated, or the mean over several: `bbox/AP`, but not `smith/bbox/AP`."""
    found = {n.removesuffix("/AP"): v for n, v in values.items() if n.endswith("/AP") and not math.isnan(v)}
    found = {task: value for task, value in found.items() if "/" not in task}
    if not found:
        return ""
    return "AP " + " ".join(f"{TASK_NAMES.get(task, task)} {value:.1f}" for task, value in found.items())


def _screening(values: dict[str, float]) -> str:
    """P_D at each P_FA: `P_D 62.0@1 81.5@5`, each set of weights by itself."""
    found: dict[str, list[str]] = {}
    for name, value in values.items():
        if (match := SCREENED.fullmatch(name)) and not math.isnan(value):
            found.setdefault(match[1], []).append(f"{value:.1f}@{match[2]}")
    return "  ".join(f"P_D{suffix} {' '.join(points)}" for suffix, points in found.items())


def _speed(values: dict[str, float]) -> str:
    parts = []
    if "images_per_second" in values:
        parts.append(f"{_digits(values['images_per_second'])} img/s")
    if "time" in values:
        data = f" (data {values['data_time']:.3f})" if "data_time" in values else ""
        parts.append(f"{values['time']:.3f} s/it{data}")
    return "  ".join(parts)


def _memory(values: dict[str, float]) -> str:
    megabytes = values.get("max_memory_mb", 0.0)
    return f"GPU {megabytes / 1024:.1f} GiB" if megabytes else ""


def _time_to_go(values: dict[str, float]) -> str:
    seconds = values.get("eta_seconds", math.nan)
    return f"ETA {datetime.timedelta(seconds=int(seconds))}" if math.isfinite(seconds) else ""
