"""What the event writers share: when and what they are called, and which numbers are still to be written."""

from collections.abc import Iterable, Mapping
from typing import Protocol, runtime_checkable

from detectron2.utils.events import EventStorage, EventWriter

from xray_lazy.tracking.logged_names import LoggedNames, Template
from xray_lazy.tracking.media import Media
from xray_lazy.tracking.run_record import RunRecord


class Writer(EventWriter):
    """A detectron2 event writer that is told about the run before training starts.

    Subclasses implement `write()`, which reads `get_event_storage()`, and may implement the other methods.

    Attributes:
        period: iterations between two writes; each writer writes after an evaluation and at the end, too, and with 0
            only then. None is the period of `hooks.write_events`.
    """

    period: int | None = None

    def start(self, run: RunRecord) -> dict:
        """Called once, before the first iteration; returns facts for `run.json`, such as `{"wandb_id": ...}`."""
        return {}

    def join(self, run: RunRecord) -> bool:
        """Called instead of `start` in a process that adds to a run of another one; whether this writer can do so."""
        return False

    def pause(self) -> None:
        """Called before `close` where training leaves with its work undone, to be resumed."""

    @property
    def takes_media(self) -> bool:
        """Whether `write_media` shows anything; where no writer does, no media are made."""
        return False

    def write_media(self, media: Mapping[str, Media], iteration: int) -> None:
        """Called after an evaluation of that iteration, with media by name."""


@runtime_checkable
class WritesAfterTraining(Protocol):
    """A writer that can't `join` a run in training, and adds to it when that has ended."""

    def has_ended(self, run: RunRecord) -> bool:
        """Whether the training that `run` records has closed its own part."""
        ...

    def start_after(self, run: RunRecord) -> None:
        """Called instead of `start`; what is written from then on is added to the run."""


class UnwrittenScalars:
    """Hands out each value of an event storage once, however often a writer writes at one iteration.

    Args:
        window_size: iterations over which values with a smoothing hint are replaced by their median.
        names: under which they are logged; None leaves them the storage's names.
        raw: patterns of the names whose last value is there beside the median, as the event `raw/<name>`.

    detectron2's writers remember the last iteration only, and so lose what is put after a write of the same iteration.
    """

    def __init__(self, window_size: int = 20, names: LoggedNames | None = None, raw: Iterable[str] = ()):
        self._window_size = window_size
        self._names = names or LoggedNames([])
        self._raw = [Template(pattern) for pattern in raw]
        self._written: dict[str, int] = {}
        self._has_raw: dict[str, bool] = {}

    def take(self, storage: EventStorage) -> dict[int, dict[str, float]]:
        """The values put since the last call, `{iteration: {name: value}}`, iterations ascending."""
        rows: dict[int, dict[str, float]] = {}
        latest, is_smoothed = storage.latest(), storage.smoothing_hints()
        for name, (value, iteration) in storage.latest_with_smoothing_hint(self._window_size).items():
            if iteration <= self._written.get(name, -1):
                continue
            self._written[name] = iteration
            row = rows.setdefault(iteration, {})
            row[self._names.logged(name)] = float(value) * self._names.scale(name)
            if is_smoothed[name] and self._wants_raw(name):
                row[self._names.logged(f"raw/{name}")] = latest[name][0] * self._names.scale(f"raw/{name}")
        return dict(sorted(rows.items()))

    def _wants_raw(self, name: str) -> bool:
        if name not in self._has_raw:
            self._has_raw[name] = any(pattern.texts_in(name) is not None for pattern in self._raw)
        return self._has_raw[name]


def axes_at(storage: EventStorage, iteration: int) -> dict[str, float]:
    """Where an iteration lies on every axis: `iteration`, `epoch` and `images_seen`.

    The last two grow by the same amount at each iteration of this start, so that two of its values tell those of all;
    they are missing where no hook puts them.
    """
    axes: dict[str, float] = {"iteration": iteration}
    for name in ("epoch", "images_seen"):
        if name in storage.latest():
            value, put_at = storage.latest()[name]
            first, first_at = storage.history(name).values()[0]
            growth = (value - first) / (put_at - first_at) if put_at > first_at else value / (put_at + 1)
            axes[name] = value - growth * (put_at - iteration)
    return axes
