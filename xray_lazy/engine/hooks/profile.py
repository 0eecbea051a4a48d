"""Where the time of a training step goes."""

import logging
import shutil
import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import torch
from detectron2.engine.train_loop import HookBase
from detectron2.utils import comm
from tabulate import tabulate
from torch.profiler import ProfilerActivity, profile, record_function

from xray_lazy.run_folder import RunFolder
from xray_lazy.utils.atomic_file import atomic_writer, write_text
from xray_lazy.utils.wording import counted

# as the trainer labels them, in the order of a step
PHASES = ("data", "forward", "backward", "optimizer", "hooks")
SHOWN_OPERATORS = 12
TRACE_NAME = "trace.pt.trace.json.gz"  # the ending that TensorBoard's profiler looks for

logger = logging.getLogger(__name__)


class Profile(HookBase):
    """Record some steps of the first process with torch's profiler.

    `<output>/profile/` gets `trace.pt.trace.json.gz`, for chrome://tracing, Perfetto or TensorBoard, and `table.txt`,
    which is also logged: time and share of each phase of a step, and the operators that take most.

    Args:
        warmup: steps of this start before the recording: the first ones choose kernels and fill caches.
        steps: that are recorded.
        stop: end the run then, to be resumed.

    On a GPU, a phase's time on the CPU is that of giving out work, and the rest of the step waits for the results; the
    table has the time that the GPU was busy with a phase beside it.
    """

    def __init__(self, warmup: int = 10, steps: int = 10, stop: bool = False):
        self.warmup, self.steps, self.stop = warmup, steps, stop
        self._profiler: profile | None = None

    def before_step(self) -> None:
        done = self.trainer.iter - self.trainer.start_iter
        if done == self.warmup and comm.is_main_process():
            self._start()
        elif done == self.warmup + self.steps:
            self._finish()
            if self.stop:
                self.trainer.request_stop("the profile is recorded")

    def after_train(self) -> None:
        self._finish()

    def _start(self) -> None:
        activities = [ProfilerActivity.CPU]
        if torch.cuda.is_available():
            activities.append(ProfilerActivity.CUDA)
        self._profiler = profile(activities=activities, acc_events=True)
        self._profiler.start()
        self.trainer.phase = record_function
        self._start_time, self._start_iteration = time.perf_counter(), self.trainer.iter

    def _finish(self) -> None:
        if self._profiler is None:
            return
        step_ms = 1000 * (time.perf_counter() - self._start_time)
        steps = self.trainer.iterations_done - self._start_iteration
        profiler, self._profiler = self._profiler, None
        profiler.stop()
        self.trainer.phase = nullcontext
        folder = RunFolder(self.trainer.checkpointer.save_dir).profile
        self._write_trace(profiler, folder / TRACE_NAME)
        events = profiler.key_averages()
        text = f"{phase_table(events, steps, step_ms / steps)}\n\n{operator_table(events, steps)}"
        write_text(folder / "table.txt", text + "\n")
        logger.info(
            "%s from iteration %d on; %s has the trace\n%s", counted(steps, "step"), self._start_iteration, folder, text
        )

    @staticmethod
    def _write_trace(profiler: profile, path: Path) -> None:
        with tempfile.TemporaryDirectory() as temporary:
            trace = Path(temporary) / path.name
            profiler.export_chrome_trace(str(trace))
            with trace.open("rb") as source, atomic_writer(path) as stream:
                shutil.copyfileobj(source, stream)


def phase_table(events: Sequence, steps: int, step_ms: float) -> str:
    """Milliseconds and share of each phase in a step, as text.

    Args:
        events: `key_averages()` of a torch profiler.
        steps: that it recorded.
        step_ms: the wall time of one.
    """
    on_gpu = any(event.device_time_total for event in events)
    cpu = {name: _milliseconds(events, name, "cpu_time_total") / steps for name in PHASES}
    gpu = {name: _milliseconds(events, name, "device_time_total") / steps for name in PHASES}
    cpu |= {"rest": step_ms - sum(cpu.values()), "step": step_ms}
    rows = [[name, f"{ms:.1f}", f"{ms / step_ms:.1%}"] for name, ms in cpu.items()]
    if not on_gpu:
        return _table(rows, ["phase", "ms", "share"])
    return _table(
        [[*row, f"{gpu[row[0]]:.1f}" if row[0] in gpu else ""] for row in rows], ["phase", "ms", "share", "GPU ms"]
    )


def operator_table(events: Sequence, steps: int) -> str:
    """The operators that take most time by themselves, without what they call, as text; arguments as `phase_table`."""
    on_gpu = any(event.self_device_time_total for event in events)
    measure = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    operators = [event for event in events if event.key not in PHASES and not event.is_user_annotation]
    operators.sort(key=lambda event: -getattr(event, measure))
    total = sum(getattr(event, measure) for event in operators) or 1
    rows = []
    for event in operators[:SHOWN_OPERATORS]:
        own = getattr(event, measure)
        rows.append([event.key[:60], f"{own / 1000 / steps:.2f}", f"{own / total:.1%}", round(event.count / steps)])
    return _table(rows, ["operator", "GPU ms" if on_gpu else "ms", "share", "calls"])


def _milliseconds(events: Sequence, name: str, measure: str) -> float:
    return max((getattr(event, measure) for event in events if event.key == name), default=0.0) / 1000


def _table(rows: list[list], headers: list[str]) -> str:
    align = ["left", *["right"] * (len(headers) - 1)]
    return tabulate(rows, headers, tablefmt="simple", disable_numparse=True, colalign=align)
