"""The console output of a prediction: progress with images per second, what was skipped, and what was found."""

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import rich.console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from xray_lazy.prediction.detection_files import Found
from xray_lazy.utils.wording import counted, printable


class Console:
    """Progress and warnings go to standard error, results to standard output."""

    def __init__(self) -> None:
        self._errors = rich.console.Console(stderr=True, highlight=False, soft_wrap=True)

    @contextmanager
    def progress(self, name: str, total: int) -> Iterator[Callable[[], None]]:
        """Show a bar while the block runs, and call what it gives after each image; `total` 0 is unknown."""
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
        with Progress(*columns, console=self._errors, disable=not self._errors.is_terminal, transient=True) as bars:
            task = bars.add_task(name, total=total or None)
            yield lambda: bars.advance(task)

    def warn(self, text: str) -> None:
        self._errors.print(Text(printable(text), style="yellow"))

    def summary(self, found: Sequence[Found], names: Sequence[str], seconds: float, skipped: int) -> None:
        """Print what was found, by class, and how fast."""
        items = sum(map(len, found))
        line = f"{counted(len(found), 'image')} in {seconds:.1f} s ({len(found) / seconds:.1f} images/s)"
        print(f"{line}, {skipped} skipped" if skipped else line)
        counts = Counter(names[class_id] for image in found for class_id in image.classes)
        if not counts:
            print("nothing found; a lower threshold shows what the model is less sure of")
            return
        within = Counter(names[class_id] for image in found for class_id in set(image.classes))
        table = Table("class", box=None, pad_edge=False)
        for header in ("items", "images with"):
            table.add_column(header, justify="right")
        for name in sorted(counts, key=counts.get, reverse=True):
            table.add_row(Text(name), str(counts[name]), str(within[name]))
        if len(counts) > 1:
            table.add_row("all", str(items), str(sum(len(image) > 0 for image in found)))
        rich.console.Console(highlight=False).print(table)

    def files(self, output: Path, files: Sequence[Path], overlays: bool) -> None:
        """Print where the results are."""
        names = [str(path.relative_to(output)) for path in files]
        folders = [name for name in ("pictures/", "videos/") if overlays and (output / name).is_dir()]
        print(f"written to {output}: {', '.join([*folders, *names])}")
        sys.stdout.flush()


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        rate = task.finished_speed or task.speed
        return Text("" if rate is None else f"{rate:.1f} images/s")
