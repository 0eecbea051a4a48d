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
        writer: has `write` and `close`, and may have what `Writer` has.
    """

    def __init__(self, name: str, writer: EventWriter):
        self._name, self._writer = name, writer
        self.period = getattr(writer, "period", None)
        self._has_warned = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._writer, name)

    def start(self, run: RunRecord) -> dict:
        return self._call("start", run) or {}

    def join(self, run: RunRecord) -> bool:
        return bool(self._call("join", run))

    def write(self) -> None:
        self._call("write")

    @property
    def takes_media(self) -> bool:
        return getattr(self._writer, "takes_media", False)

    def write_media(self, media: Mapping[str, Media], iteration: int) -> None:
        self._call("write_media", media, iteration)

    def pause(self) -> None:
        self._call("pause")

    def close(self) -> None:
        self._call("close")

    def _call(self, name: str, *arguments: Any) -> Any:
        method: Callable | None = getattr(self._writer, name, None)
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
