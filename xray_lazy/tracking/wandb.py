"""Weights & Biases: one row per write, one run over all resumes, and never a reason for training to stop."""

import dataclasses
import math
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detectron2.utils.events import get_event_storage

from xray_lazy.errors import UserError
from xray_lazy.tracking.best_values import BestValues
from xray_lazy.tracking.logged_names import LoggedNames
from xray_lazy.tracking.media import Media
from xray_lazy.tracking.run_record import RunRecord
from xray_lazy.tracking.wandb_files import has_ended
from xray_lazy.tracking.wandb_session import WandbSession
from xray_lazy.tracking.writer import UnwrittenScalars, Writer, axes_at

MOST_WAITING = 4  # evaluations whose images are in memory because W&B is stuck
CHECKPOINT_CHOICES = ("none", "best", "final", "best and final")


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
        names: of scalars; None leaves them those of the event storage.
        raw: patterns of the scalars whose last value is logged beside the median.
        axis: what W&B draws scalars over: "iteration", "epoch" or "images_seen"; each row has all three.
        best: "max" or "min" by pattern of the event storage's names: the summary, which is else the last values, has
            this of all iterations as `best/<name>`.
        period: in iterations.
        checkpoints: which of them become a model artifact when training is done: "none", "best", "final" or
            "best and final".
        upload_timeout: seconds that sending these may take.

    Raises:
        UserError: there is no such mode, axis or choice of checkpoints, or `best` is neither max nor min.
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
        names: LoggedNames | None = None,
        raw: Sequence[str] = (),
        axis: str = "iteration",
        best: Mapping[str, str] | None = None,
        period: int | None = None,
        checkpoints: str = "none",
        upload_timeout: float = 600.0,
    ):
        if checkpoints not in CHECKPOINT_CHOICES:
            fix = f"set writers.wandb.checkpoints to one of {', '.join(CHECKPOINT_CHOICES)}"
            raise UserError(f"W&B is to get the checkpoints {checkpoints!r}", fix)
        self._checkpoints, self._upload_timeout = checkpoints, upload_timeout
        self._folder, self._last_iteration = Path(directory), 0
        self.period = period
        options = {"project": project, "group": group, "tags": list(tags), "notes": notes}
        options |= {"job_type": job_type, "entity": entity}
        self._session = WandbSession(directory, name, mode, timeout, options, axis)
        self._names = names = names or LoggedNames([])
        self._scalars = UnwrittenScalars(window_size, names, raw)
        self._best = BestValues(best or {}, names)
        self._free = threading.Semaphore(MOST_WAITING)

    def start(self, run: RunRecord) -> dict:
        """Open the W&B run, the same one when `run` is resumed; returns its id."""
        self._folder = Path(run.output_dir)
        facts = self._session.start(run)
        if run.start_iteration:  # W&B's own minimum and maximum would start anew
            self._summarize(self._best.read(run.output_dir, run.start_iteration))
        return facts

    def has_ended(self, run: RunRecord) -> bool:
        """Whether the training that `run` records has closed its W&B run, so that another process may open it."""
        return run.wandb_id is None or has_ended(self._session.directory, run.wandb_id)

    def start_after(self, run: RunRecord) -> None:
        """Called instead of `start` once the training has ended: what comes is added to its W&B run, if it has one."""
        if run.wandb_id is not None:
            self.start(dataclasses.replace(run, start_iteration=sys.maxsize))

    def write(self) -> None:
        if not self._session.is_open:
            return
        storage = get_event_storage()
        self._last_iteration = storage.iter
        for iteration, values in self._scalars.take(storage).items():
            # NaN is a class without instances: there is nothing to draw
            values = {name: value for name, value in values.items() if not math.isnan(value)}
            if values:
                self._session.log({**values, **axes_at(storage, iteration)})
                self._summarize(self._best.improved(values))

    def _summarize(self, best: Mapping[str, float]) -> None:
        if best:
            self._session.summarize({f"best/{name}": value for name, value in best.items()})

    @property
    def takes_media(self) -> bool:
        return self._session.is_open

    def write_media(self, media: Mapping[str, Media], iteration: int) -> None:
        axes = axes_at(get_event_storage(), iteration)

        def log(run: Any) -> None:
            from xray_lazy.tracking.wandb_media import log_media  # it imports wandb

            log_media(run, {self._names.logged(name): item for name, item in media.items()}, axes)
            self._free.release()

        if self._free.acquire(blocking=False):
            self._session.use("log images", log)

    def pause(self) -> None:
        self._session.mark_preempting()

    def close(self) -> None:
        if self._checkpoints != "none" and sys.exc_info()[0] is None:  # as in the `finally` of a failed training
            self._session.use("log checkpoints", self._log_checkpoints)
            self._session.wait(self._upload_timeout)
        self._session.close()

    def _log_checkpoints(self, run: Any) -> None:
        from xray_lazy.tracking.wandb_artifacts import log_checkpoints  # it imports wandb

        log_checkpoints(run, self._folder, self._checkpoints, self._last_iteration)
