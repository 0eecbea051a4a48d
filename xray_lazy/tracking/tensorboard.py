"""TensorBoard: the storage's scalars, images and histograms."""

import contextlib
import glob
import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

from detectron2.utils.events import get_event_storage

from xray_lazy.tracking.background import Background
from xray_lazy.tracking.logged_names import LoggedNames
from xray_lazy.tracking.media import Media
from xray_lazy.tracking.run_record import RunRecord
from xray_lazy.tracking.tensorboard_media import add_media
from xray_lazy.tracking.writer import UnwrittenScalars, Writer

logger = logging.getLogger(__name__)


class TensorboardWriter(Writer):
    """Write event files for `tensorboard --logdir`; without the package it warns once and writes nothing.

    Images and charts are drawn in a thread beside training, those of one evaluation at a time.

    Args:
        log_dir: the folder of the event files.
        window_size: iterations over which values with a smoothing hint are replaced by their median.
        names: of scalars; None leaves them those of the event storage.
        raw: patterns of the scalars whose last value is logged beside the median.
        period: in iterations.
    """

    def __init__(
        self,
        log_dir: str,
        window_size: int = 20,
        names: LoggedNames | None = None,
        raw: Sequence[str] = (),
        period: int | None = None,
    ):
        self.period = period
        self._log_dir = log_dir
        self._names = names or LoggedNames([])
        self._scalars = UnwrittenScalars(window_size, self._names, raw)
        self._events = None
        self._drawing: Background | None = None
        self._own_files: set[str] = set()

    def start(self, run: RunRecord) -> dict:
        """Open a new event file; it tells TensorBoard to forget what an earlier start wrote of iterations to come."""
        self._open(purge_step=run.start_iteration)
        return {}

    def join(self, run: RunRecord) -> bool:
        """Open an event file that leaves all others as they are."""
        self._open(purge_step=None)
        return self._events is not None

    def _open(self, purge_step: int | None) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            logger.warning("no TensorBoard files are written (%s); fix: pip install tensorboard", error)
        else:
            before = set(self._event_files())
            self._events = SummaryWriter(self._log_dir, purge_step=purge_step)
            self._drawing = Background("TensorBoard")
            self._own_files = set(self._event_files()) - before

    def write(self) -> None:
        if self._events is None:
            return
        self._reopen_if_deleted()
        storage = get_event_storage()
        for iteration, values in self._scalars.take(storage).items():
            for name, value in values.items():
                self._events.add_scalar(name, value, iteration)
        # detectron2 has no public name for these two; it expects the TensorBoard writer to take and clear them
        for name, image, iteration in storage._vis_data:
            self._events.add_image(name, image, iteration)
        storage.clear_images()
        for histogram in storage._histograms:
            self._events.add_histogram_raw(**histogram)
        storage.clear_histograms()
        self._events.flush()

    def _reopen_if_deleted(self) -> None:
        # TensorBoard's own thread would die of it, with a traceback, or write on without a beginning
        if not self._own_files <= set(self._event_files()):
            message = f"{self._log_dir} was deleted: TensorBoard has the numbers from here on only"
            logger.warning("%s", message)
            with contextlib.suppress(OSError):
                self.close()  # of what was never written it complains
            self._open(purge_step=None)

    def _event_files(self) -> list[str]:
        return glob.glob(os.path.join(glob.escape(self._log_dir), "events.out.tfevents.*"))

    @property
    def takes_media(self) -> bool:
        return self._events is not None

    def write_media(self, media: Mapping[str, Media], iteration: int) -> None:
        if self._events is None:
            return
        self._reopen_if_deleted()
        named = {self._names.logged(name): item for name, item in media.items()}
        self._drawing.wait()  # so that slow drawing never keeps the images of many evaluations in memory
        events = self._events
        self._drawing.do(lambda: self._draw(events, named, iteration))

    @staticmethod
    def _draw(events: Any, media: Mapping[str, Media], iteration: int) -> None:
        """In the thread."""
        try:
            add_media(events, media, iteration)
            events.flush()
        except Exception as error:
            logger.warning("TensorBoard has no images of iteration %d: %s", iteration, error)

    def close(self) -> None:
        events, drawing, self._events, self._drawing = self._events, self._drawing, None, None
        if events is not None:
            drawing.wait()
            drawing.close()
            events.close()
