"""Where a run's log goes: to the console, and into `log.txt` once the output folder is the run's."""

import logging
import sys
from logging.handlers import MemoryHandler, WatchedFileHandler
from pathlib import Path

from detectron2.utils import comm
from detectron2.utils.logger import setup_logger

from xray_lazy.run_folder import RunFolder
from xray_lazy.utils.wording import clean_what_is_printed

LOGGED = ("xray_lazy", "detectron2", "fvcore")
# they tell of each data set's bytes, and of torch functions that detectron2 calls
TALKATIVE = ("detectron2.data.common", "torch.fx._symbolic_trace")

logger = logging.getLogger(__name__)


class LogFile(WatchedFileHandler):
    """Appends to a file; where somebody deletes it, it says so and begins anew. What the disk refuses is left out.

    It warns of that once: the console has the lines, too.
    """

    _refused = False

    def __init__(self, path: Path):
        # names of files and classes may not be UTF-8
        super().__init__(path, encoding="utf-8", errors="backslashreplace")
        self.setFormatter(logging.Formatter("[%(asctime)s] %(name)s %(levelname)s: %(message)s", "%m/%d %H:%M:%S"))

    def emit(self, record: logging.LogRecord) -> None:
        try:
            super().emit(record)
        except OSError:  # its folder is gone
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self._refused:
            self._refused = True
            message = f"can't write {self.baseFilename}, it misses what the console has: {error}"
            logger.warning("%s", message)

    def reopenIfNeeded(self) -> None:  # noqa: N802
        before = self.stream
        super().reopenIfNeeded()
        if before is not None and self.stream is not before:
            message = f"{self.baseFilename} was deleted: it has the log from here on only"
            logger.warning("%s", message)


def hold_log() -> None:
    """Log to the console, and keep what is logged for the file that `start_logging` opens: nothing is written yet."""
    _log_to_console()
    for name in LOGGED:
        logging.getLogger(name).addHandler(MemoryHandler(10_000, flushLevel=logging.CRITICAL + 1))


def start_logging(output_dir: str | Path) -> None:
    """Log to the console and, each process to its own file, to `<output_dir>/log.txt`."""
    loggers = [logging.getLogger(name) for name in LOGGED]
    handlers = [(logger, handler) for logger in loggers for handler in logger.handlers]
    held = [(record, logger) for logger, h in handlers if isinstance(h, MemoryHandler) for record in h.buffer]
    _log_to_console()
    path = RunFolder(output_dir).log(comm.get_rank())
    path.parent.mkdir(parents=True, exist_ok=True)
    file = LogFile(path)
    for record, _ in sorted(held, key=lambda item: item[0].created):
        file.handle(record)
    for logger in loggers:
        logger.addHandler(file)


def _log_to_console() -> None:
    for name in LOGGED:
        # detectron2 keeps one logger per arguments: a second run in this Python must not write into the first's file
        logger = logging.getLogger(name)
        for handler in list(logger.handlers):
            logger.removeHandler(handler)
            handler.close()
        setup_logger.cache_clear()
        setup_logger(None, distributed_rank=comm.get_rank(), name=name)
        for handler in logger.handlers:
            clean_what_is_printed(getattr(handler, "stream", None))
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(logging.ERROR)
