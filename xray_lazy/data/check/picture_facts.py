"""Read every picture of a set once, on all cores: its size, its content, and what is wrong with it."""

import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from xray_lazy.data.picture_file import (
    MissingPicture,
    TruncatedPicture,
    UnreadablePicture,
    is_turned,
    picture_size,
    read_picture,
)


@dataclass(frozen=True)
class PictureFacts:
    """What a picture's file says.

    Attributes:
        size: (width, height) upright, or None where not even the header can be read.
        turned: the EXIF orientation swaps width and height.
        fault: "", "picture_missing", "picture_unreadable" or "picture_truncated".
        why: the reason of the fault.
        digest: a hash of the pixels, or None where they can't be read.
    """

    size: tuple[int, int] | None
    turned: bool = False
    fault: str = ""
    why: str = ""
    digest: bytes | None = None


def read_facts(paths: Iterable[Path], show_progress: bool = False) -> dict[Path, PictureFacts]:
    """The facts of each path; decoding and hashing run in threads, as both leave Python's lock."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    paths = list(dict.fromkeys(paths))
    columns = TextColumn("reading pictures"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    console = Console(stderr=True)
    shown = show_progress and console.is_terminal
    pool = ThreadPoolExecutor(_cores())
    try:
        with Progress(*columns, console=console, transient=True, disable=not shown) as progress:
            facts = progress.track(pool.map(picture_facts, paths), total=len(paths))
            return dict(zip(paths, facts, strict=True))
    finally:
        # on an interrupt the thousands of pictures that still wait are given up
        pool.shutdown(cancel_futures=True)


def picture_facts(path: Path) -> PictureFacts:
    """The facts of one picture."""
    try:
        picture = read_picture(path)
    except MissingPicture as error:
        return PictureFacts(None, fault="picture_missing", why=error.why)
    except UnreadablePicture as error:
        fault = "picture_truncated" if isinstance(error, TruncatedPicture) else "picture_unreadable"
        return PictureFacts(_size_or_none(path), is_turned(path), fault, error.why)
    height, width = picture.shape[:2]
    digest = hashlib.sha1(picture, usedforsecurity=False)
    digest.update(f"{width}x{height}".encode())
    return PictureFacts((width, height), is_turned(path), digest=digest.digest())


def _size_or_none(path: Path) -> tuple[int, int] | None:
    try:
        return picture_size(path)
    except UnreadablePicture:
        return None


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
