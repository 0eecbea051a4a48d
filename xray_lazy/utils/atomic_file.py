"""Write files so that a reader, a crash or a full disk never leaves half of one: temporary name, then rename."""

import errno
import fcntl
import json
import os
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from xray_lazy.utils.interruption import unfinished_files

ABANDONED_SECONDS = 60
_TEMPORARY = re.compile(r"\..+\.[a-z0-9_]{8}\.tmp")  # as mkstemp makes them below
_OF_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
_looked_at: set[Path] = set()


@contextmanager
def atomic_writer(path: str | os.PathLike, replace: bool = True) -> Iterator[BinaryIO]:
    """Open a binary file that takes the name `path` only when the block ends without an error.

    Args:
        replace: a file that is there; else FileExistsError is raised, also where another process was faster.

    Raises:
        OSError: the folder can't be written, the disk is full, or `path` is a folder, a pipe or a device, which a file
            is not to replace; `path` keeps its old content.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        number = errno.EISDIR if path.is_dir() else errno.EEXIST
        raise OSError(number, os.strerror(number) if path.is_dir() else "A pipe or a device", str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(path.parent)
    # not all of a long name: what makes it temporary would make it too long
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name[:48]}.", suffix=".tmp", dir=path.parent)
    unfinished_files.add(temporary)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(stream, fcntl.LOCK_EX)
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o666 & ~_UMASK)
        if replace:
            os.replace(temporary, path)
        else:
            _rename_to_new(temporary, path)
    except OSError as error:
        if error.filename is None and error.errno in _OF_WRITING:  # say which disk it is
            error.filename = str(path)
        raise
    finally:
        Path(temporary).unlink(missing_ok=True)
        unfinished_files.discard(temporary)


def _remove_abandoned(folder: Path) -> None:
    """Delete what a killed process has left of its temporary files; a folder is looked at once, as it may be large."""
    if folder in _looked_at:
        return
    _looked_at.add(folder)
    for leftover in folder.glob(".*.tmp"):
        # what somebody writes is locked, or was touched just now
        with suppress(OSError):
            if _TEMPORARY.fullmatch(leftover.name) and time.time() - leftover.stat().st_mtime > ABANDONED_SECONDS:
                remove_if_free(leftover)


def remove_unfinished(folder: str | os.PathLike) -> None:
    """Delete what killed processes have left half-written here and below; nobody else is to write there."""
    for leftover in Path(folder).rglob(".*.tmp"):
        if _TEMPORARY.fullmatch(leftover.name):
            remove_if_free(leftover)


def remove_if_free(leftover: Path) -> None:
    """Delete a temporary file, but for one that somebody is writing."""
    with suppress(OSError), open(leftover, "r+b") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        leftover.unlink()


def _rename_to_new(temporary: str, path: Path) -> None:
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        os.replace(temporary, path)


def utf8(text: str) -> bytes:
    """Text as UTF-8; bytes of a file name that are not UTF-8, lone surrogates to Python, become `\\udcXX`.

    In JSON that is their own escape: who reads the file has the same name again.
    """
    return text.encode("utf-8", "backslashreplace")


def write_bytes(path: str | os.PathLike, content: bytes) -> None:
    """Write `content` as it is."""
    with atomic_writer(path) as stream:
        stream.write(content)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write `text` as UTF-8."""
    write_bytes(path, utf8(text))


def write_json(path: str | os.PathLike, value: Any, indent: int | None = None) -> None:
    """Write `value` as JSON; NaN and infinity are written as JSON's nearest reading, `NaN` and `Infinity`."""
    write_text(path, json.dumps(value, indent=indent, ensure_ascii=False) + "\n")


def _read_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


# mkstemp makes files private; results in an output folder are read by colleagues, so the usual mask applies.
_UMASK = _read_umask()
