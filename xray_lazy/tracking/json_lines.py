"""`metrics.json`: detectron2's format, one JSON object per line and iteration, but strict JSON and safe to resume."""

import json
import math
from pathlib import Path
from typing import BinaryIO

from detectron2.utils.events import get_event_storage

from xray_lazy.atomic_file import write_text
from xray_lazy.tracking.run_record import RunRecord
from xray_lazy.tracking.writer import UnwrittenScalars, Writer


class JsonWriter(Writer):
    """Append the storage's scalars to a file of JSON lines; NaN and infinity become null.

    Args:
        path: the file, made when first written.
        window_size: iterations over which values with a smoothing hint are replaced by their median.

    A line is written by one call to the operating system, so a killed process leaves whole lines. Values that come
    late for the last iteration, such as an evaluation's, join its line.
    """

    def __init__(self, path: str, window_size: int = 20):
        self._path = Path(path)
        self._scalars = UnwrittenScalars(window_size)
        self._stream: BinaryIO | None = None
        self._last_iteration: int | None = None

    def start(self, run: RunRecord) -> dict:
        """Drop the lines of the iterations that this run does again, and what a crash left half-written."""
        if self._path.exists():
            kept = [line for line in read_json_lines(self._path) if line["iteration"] < run.start_iteration]
            write_text(self._path, "".join(json.dumps(line) + "\n" for line in kept))
        return {}

    def write(self) -> None:
        for iteration, values in self._scalars.take(get_event_storage()).items():
            values = {name: value if math.isfinite(value) else None for name, value in sorted(values.items())}
            if self._stream is None:
                self._open()
            if iteration == self._last_iteration:
                # the new values overwrite the line's end, "}\n"
                self._stream.seek(-2, 2)
                text = ", " + json.dumps(values)[1:]
            else:
                self._stream.seek(0, 2)
                text = json.dumps({"iteration": iteration, **values})
            self._stream.write((text + "\n").encode())
            self._last_iteration = iteration

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None
            self._last_iteration = None

    def _open(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.touch()
        self._stream = open(self._path, "r+b", buffering=0)  # noqa: SIM115


def read_json_lines(path: str | Path) -> list[dict]:
    """The objects of a `metrics.json`, without a last line that a crash left half-written."""
    lines = []
    for text in Path(path).read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue
        if isinstance(line, dict) and "iteration" in line:
            lines.append(line)
    return lines
