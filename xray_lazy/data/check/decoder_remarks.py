"""What libjpeg says of damaged images that it reads all the same: it prints a line on stderr, without a name."""

import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from xray_lazy.data.image_files.image_file import UnreadableImage, read_image

_JPEG_START = b"\xff\xd8"


def another_stderr() -> int:
    """A second number for what is stderr now, or for nowhere if that is closed."""
    try:
        return os.dup(2)
    except OSError:
        return os.open(os.devnull, os.O_WRONLY)


@contextmanager
def kept_stderr() -> Iterator[BinaryIO]:
    """A file that takes what the whole process, C libraries too, writes on stderr; what it still holds is passed on."""
    if sys.stderr:
        sys.stderr.flush()
    stderr = another_stderr()
    with tempfile.TemporaryFile() as kept:
        os.dup2(kept.fileno(), 2)
        try:
            yield kept
        finally:
            if sys.stderr:
                sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)
            if rest := _all_of(kept):
                os.write(2, rest)


def take_remarks(kept: BinaryIO, paths: Iterable[Path]) -> dict[Path, str]:
    """Who the lines in `kept` are about: if there are any, the JPEGs are read again, one at a time.

    The lines that the images led to are taken out of `kept`.
    """
    if not (said := _all_of(kept)):
        return {}
    remarks = {}
    for path in filter(_is_jpeg, paths):
        _set(kept, b"")
        try:
            read_image(path)
        except UnreadableImage:
            continue
        if remark := _all_of(kept).strip():
            remarks[path] = remark
    known = {line for remark in remarks.values() for line in remark.splitlines()}
    _set(kept, b"".join(line for line in said.splitlines(keepends=True) if line.strip() not in known))
    return {path: "; ".join(remark.decode(errors="replace").splitlines()) for path, remark in remarks.items()}


def _is_jpeg(path: Path) -> bool:
    with open(path, "rb") as stream:
        return stream.read(2) == _JPEG_START


def _all_of(kept: BinaryIO) -> bytes:
    kept.seek(0)
    return kept.read()


def _set(kept: BinaryIO, content: bytes) -> None:
    kept.seek(0)
    kept.truncate()
    kept.write(content)
    kept.flush()
