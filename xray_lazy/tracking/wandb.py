"""Weights & Biases: one row per write, one run over all resumes, and never a reason for training to stop."""

from collections.abc import Sequence

from detectron2.utils.events import get_event_storage

from xray_lazy.tracking.run_record import RunRecord
from xray_lazy.tracking.wandb_session import AXES, WandbSession
from xray_lazy.tracking.writer import UnwrittenScalars, Writer


class WandbWriter(Writer):
    """Log the storage's scalars to W&B; any failure of W&B's is one warning.

    Args:
        project: of W&B; made when it doesn't exist.
        directory: W&B puts its files into `<directory>/wandb`.
        name: of the run; default the name of the output folder.
        group, tags, notes, job_type, entity: as W&B's.
        mode: "online", "offline", "disabled"; "auto" obeys `WANDB_MODE`, else is online where someone is logged in and
            offline elsewhere.
        timeout: seconds that W&B may take to start, and to send the rest at the end.
        window_size: iterations over which values with a smoothing hint are replaced by their median.
    """

    def __init__(
        self,
        project: str,
        directory: str,
        name: str | None = None,
        group: str | None = None,
        tags: Sequence[str] = (),
        notes: str | None = None,
        job_type: str | None = None,
        entity: str | None = None,
        mode: str = "auto",
        timeout: float = 30.0,
        window_size: int = 20,
    ):
        options = {"project": project, "group": group, "tags": list(tags), "notes": notes}
        options |= {"job_type": job_type, "entity": entity}
        self._session = WandbSession(directory, name, mode, timeout, options)
        self._scalars = UnwrittenScalars(window_size)

    def start(self, run: RunRecord) -> dict:
        """Open the W&B run, the same one when `run` is resumed; returns its id."""
        return self._session.start(run)

    def write(self) -> None:
        if not self._session.is_open:
            return
        storage = get_event_storage()
        latest = storage.latest()
        for iteration, values in self._scalars.take(storage).items():
            # what is logged late for an iteration still needs its place on every axis
            axes = {name: latest[name][0] for name in AXES if name in latest and latest[name][1] == iteration}
            self._session.log({**values, **axes, "iteration": iteration})

    def close(self) -> None:
        self._session.close()
