"""`metrics.json`: detectron2's format, JSON objects by line and iteration, strict JSON; several processes may write."""

import errno
import fcntl
import json
import logging
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from detectron2.utils.events import get_event_storage

from xray_lazy.errors import UserError
from xray_lazy.run_folder import read_json_lines
from xray_lazy.tracking.run_record import RunRecord
from xray_lazy.tracking.writer import UnwrittenScalars, Writer
from xray_lazy.utils.atomic_file import write_text

logger = logging.getLogger(__name__)

# what file systems answer that have no locks
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


class JsonWriter(Writer):
    """Append the storage's scalars to a file of JSON lines; NaN and infinity become null.

    Args:
        path: the file, made when first written.
        window_size: iterations over which values with a smoothing hint are replaced by their median.
        period: in iterations.

    A line is written by one call to the operating system at the end of the file, under a lock: a killed process leaves
    whole lines, and another process can write the same file. What comes late for an iteration, such as an evaluation's
    values, is a line of its own with that iteration; `read_json_lines` puts them together.
    """

    def __init__(self, path: str, window_size: int = 20, period: int | None = None):
        self.period = period
        self._path = Path(path)
        self._scalars = UnwrittenScalars(window_size)
        self._unwritten: list[str] = []  # what the disk refused comes with the next lines
        self._has_written = False

    def start(self, run: RunRecord) -> dict:
        """Drop the lines of the iterations that this run does again, and what a crash left half-written."""
        if self._path.exists():
            if not self._path.is_file():
                raise UserError(f"{self._path} is no file", "move it away, or set writers.json.path")
            with _locked(self._path):
                kept = [line for line in read_json_lines(self._path) if line["iteration"] < run.start_iteration]
                write_text(self._path, "".join(json.dumps(line) + "\n" for line in kept))
        return {}

    def join(self, run: RunRecord) -> bool:
        return True

    def write(self) -> None:
        lines = self._unwritten
        for iteration, values in self._scalars.take(get_event_storage()).items():
            values = {name: value if math.isfinite(value) else None for name, value in sorted(values.items())}
            lines.append(json.dumps({"iteration": iteration, **values}) + "\n")
        if lines:
            if self._has_written and not self._path.exists():
                message = f"{self._path} was deleted: it has the numbers from here on only"
                logger.warning("%s", message)
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with _locked(self._path) as stream:
                # a process that was killed, or a full disk, may have left a line without its end
                start = "" if _ends_with_line(stream) else "\n"
                stream.write((start + "".join(lines)).encode())
            self._unwritten, self._has_written = [], True


@contextmanager
def _locked(path: Path) -> Iterator[BinaryIO]:
    """The file, open to append, locked against all who open it in this way; without lock where there are none."""
    while True:
        # opened anew for each write: on NFS a lock, then an open file, are what shows the writes of other machines
        with open(path, "a+b", buffering=0) as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX)
            except OSError as error:
                if error.errno not in NO_LOCKS:
                    raise
            if _is_present(stream, path):
                yield stream
                return


def _is_present(stream: BinaryIO, path: Path) -> bool:
    """Whether the open file still has its name; a run that was resumed meanwhile has put another one in its place."""
    try:
        return os.path.samestat(os.fstat(stream.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _ends_with_line(stream: BinaryIO) -> bool:
    if stream.seek(0, os.SEEK_END) == 0:
        return True
    stream.seek(-1, os.SEEK_END)
    return stream.read(1) == b"\n"
