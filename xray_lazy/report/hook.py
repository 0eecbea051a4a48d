"""The report at the end of a training."""

import logging
import threading
import time
from pathlib import Path

from detectron2.engine.train_loop import HookBase
from detectron2.utils import comm

logger = logging.getLogger(__name__)


class Report(HookBase):
    """Write `report.html` into the output folder when training is done.

    Args:
        enabled: whether it is written.
        time_limit: in seconds; training ends without the report where it takes longer.

    One that fails is a warning: all else of the run is saved by then. A run that was interrupted gets none, so that its
    process can end at once; `tools/report.py` makes one of any run at any time.
    """

    def __init__(self, enabled: bool = True, time_limit: float = 120.0):
        self.enabled, self.time_limit = enabled, time_limit

    def after_train(self) -> None:
        if not self.enabled or not comm.is_main_process() or not self.trainer.is_finished:
            return
        folder, start = Path(self.trainer.checkpointer.save_dir), time.perf_counter()
        # a thread of its own, which ends with the process: there is no other way to stop waiting
        writing = threading.Thread(target=_write, args=(folder, start), name="report", daemon=True)
        writing.start()
        writing.join(self.time_limit)
        if writing.is_alive():
            logger.warning(
                "the report takes longer than %g s and is left out: python tools/report.py %s", self.time_limit, folder
            )


def _write(folder: Path, start: float) -> None:
    try:
        # what it needs would slow down the start of every training, whose config names this hook
        from xray_lazy.report.write import write_report

        path = write_report([folder])
        logger.info("report: %s (%.1f s)", path, time.perf_counter() - start)
    except Exception as error:
        reason = getattr(error, "message", None) or f"{type(error).__name__}: {error}"
        logger.warning("there is no report of this run: %s", reason)
