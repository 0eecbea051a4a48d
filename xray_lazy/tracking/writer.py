"""What the event writers share: the call before training, and which numbers are still to be written."""

from detectron2.utils.events import EventStorage, EventWriter

from xray_lazy.tracking.run_record import RunRecord


class Writer(EventWriter):
    """A detectron2 event writer that is told about the run before training starts.

    Subclasses implement `write()`, which reads `get_event_storage()`, and may implement `start` and `close`.
    """

    def start(self, run: RunRecord) -> dict:
        """Called once, before the first iteration; returns facts for `run.json`, such as `{"wandb_id": ...}`."""
        return {}


class UnwrittenScalars:
    """Hands out each value of an event storage once, however often a writer writes at one iteration.

    Args:
        window_size: iterations over which values with a smoothing hint are replaced by their median.

    detectron2's writers remember the last iteration only, and so lose what is put after a write of the same iteration.
    """

    def __init__(self, window_size: int = 20):
        self._window_size = window_size
        self._written: dict[str, int] = {}

    def take(self, storage: EventStorage) -> dict[int, dict[str, float]]:
        """The values put since the last call, `{iteration: {name: value}}`, iterations ascending."""
        rows: dict[int, dict[str, float]] = {}
        for name, (value, iteration) in storage.latest_with_smoothing_hint(self._window_size).items():
            if iteration > self._written.get(name, -1):
                self._written[name] = iteration
                rows.setdefault(iteration, {})[name] = float(value)
        return dict(sorted(rows.items()))
