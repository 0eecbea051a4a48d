"""End a run in order when it is asked to: by signal, or by a file."""

import contextlib
import multiprocessing
import signal
import time

from detectron2.engine.train_loop import HookBase

from xray_lazy.run_folder import RunFolder
from xray_lazy.utils.interruption import ENDING, Insistence, error_of, heard


class StopSignals(HookBase):
    """On SIGINT, SIGTERM, SIGHUP or SIGUSR2 finish the step, save and leave, to be resumed.

    A file `stop` in the output folder completes the run: the last evaluation and `model_final.pth`, as at the end. Its
    text, if it has one, is the reason in the log.

    All processes end after the same step, whichever of them was asked. A second SIGINT ends the run at once, and a
    second SIGTERM some seconds after the first; processes that `launch` has started have a while to save in also then.
    """

    LOOK_SECONDS = 1.0  # between two looks for the file: spares the shared disk of a cluster
    SIGNALS = (*ENDING, signal.SIGUSR2)

    def before_train(self) -> None:
        self._insists = Insistence()
        self._next_look = 0.0
        self._stop_file = RunFolder(self.trainer.checkpointer.save_dir).stop
        self._hearing = contextlib.ExitStack()
        self._hearing.enter_context(heard(self.SIGNALS, self._on_signal))

    def before_step(self) -> None:
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + self.LOOK_SECONDS
        if self._stop_file.exists():
            self.trainer.request_stop(self._reason(), finish=True)

    def _reason(self) -> str:
        try:
            text = self._stop_file.read_text(errors="replace").strip()
        except OSError:  # deleted in this very moment
            text = ""
        return f"there is a file {self._stop_file}" + (f" that says: {text}" if text else "")

    def after_train(self) -> None:
        self._hearing.close()

    def _on_signal(self, number: int, frame: object) -> None:
        if self._insists(number) and (number == signal.SIGINT or multiprocessing.parent_process() is None):
            raise error_of(number)
        with contextlib.suppress(ReferenceError):  # training has failed, and its process is about to end
            self.trainer.request_stop(f"received {signal.Signals(number).name}")
