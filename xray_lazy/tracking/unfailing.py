"""Writers whose failures end no training: numbers in one place are worth less than the run."""

import logging
from collections.abc import Callable, Mapping
from typing import Any

from detectron2.utils.events import EventWriter

from xray_lazy.data.loaders import is_worker_death
from xray_lazy.tracking.media import Media
from xray_lazy.tracking.run_record import RunRecord
from xray_lazy.tracking.writer import Writer

logger = logging.getLogger(__name__)


class UnfailingWriter(Writer):
    """Calls another writer; what that raises is a warning, once, and later calls may work again.

    Args:
        name: in the config.
        writer: one of ours, or any of detectron2's, of which only `write` and `close` are called.
    """

    def __init__(self, name: str, writer: EventWriter):
        self._name, self._writer = name, writer
        self._ours = writer if isinstance(writer, Writer) else None
        self.period = self._ours.period if self._ours else None
        self._has_warned = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._writer, name)

    def start(self, run: RunRecord) -> dict:
        return self._call(self._ours and self._ours.start, run) or {}

    def join(self, run: RunRecord) -> bool:
        return bool(self._call(self._ours and self._ours.join, run))

    def write(self) -> None:
        self._call(self._writer.write)

    @property
    def takes_media(self) -> bool:
        return self._ours is not None and self._ours.takes_media

    def write_media(self, media: Mapping[str, Media], iteration: int) -> None:
        self._call(self._ours and self._ours.write_media, media, iteration)

    def pause(self) -> None:
        self._call(self._ours and self._ours.pause)

    def close(self) -> None:
        self._call(self._writer.close)

    def _call(self, method: Callable | None, *arguments: Any) -> Any:
        try:
            return method(*arguments) if method else None
        except Exception as error:
            if is_worker_death(error):  # torch raises it wherever the process is
                raise
            if not self._has_warned:
                self._has_warned = True
                why = str(error) or type(error).__name__
                message = f"the writer {self._name} fails, training goes on without what it misses: {why}"
                logger.warning("%s", message)
            return None
