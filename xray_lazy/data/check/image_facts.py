"""Read every image of a set once, on all cores: its size, its content, and what is wrong with it."""

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from xray_lazy.data.check.decoder_remarks import another_stderr, kept_stderr, take_remarks
from xray_lazy.data.check.near_duplicates import thumbnail
from xray_lazy.data.check.raw_images import RawFacts
from xray_lazy.data.image_files.image_bytes import MissingImage, SeveralPages, TruncatedImage, UnreadableImage
from xray_lazy.data.image_files.image_file import image_size, is_turned, read_image, read_samples
from xray_lazy.data.image_files.stored_arrays import array_shape, is_array
from xray_lazy.data.likely_reader import likely_parts, likely_reader
from xray_lazy.utils.wording import counted

# Half of what there is: of 16 bits, data of 15 or fewer stay below it, however bright they are.
LEAST_BRIGHT = 128
# of pixels: this share may be defects of the detector, or letters in the image
MOST_BRIGHT = 0.01
_FAULTS = {TruncatedImage: "picture_truncated", SeveralPages: "picture_pages"}
IMAGES_LOOKED_AT = 5  # of many that are alike


@dataclass(frozen=True)
class ImageFacts:
    """What an image's file says.

    Attributes:
        size: (width, height) upright, or None where not even the header can be read.
        turned: the EXIF orientation swaps width and height.
        fault: "", "picture_missing", "picture_unreadable", "picture_truncated" or "picture_pages".
        why: the reason of the fault.
        digest: a hash of the pixels, or None where they can't be read.
        thumbnail: what is compared with other images, or None where the pixels can't be read.
        darkness: how little training sees of an image of more than 8 bits; empty where that is enough.
        raw: what a file of other than 8-bit colours stores; None for these.
        remark: what the decoder says of a damaged file that it reads all the same.
    """

    size: tuple[int, int] | None
    turned: bool = False
    fault: str = ""
    why: str = ""
    digest: bytes | None = None
    thumbnail: bytes | None = field(default=None, repr=False)
    darkness: str = ""
    raw: RawFacts | None = None
    remark: str = ""


def read_facts(paths: Iterable[Path], show_progress: bool = False) -> dict[Path, ImageFacts]:
    """The facts of each path; decoding and hashing run in threads, as both leave Python's lock."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    paths = list(dict.fromkeys(paths))
    columns = TextColumn("reading images"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    pool = ThreadPoolExecutor(_cores())
    # a terminal's stderr by a number of its own, which stays the terminal's while the other is kept
    with os.fdopen(another_stderr(), "w", encoding="utf-8") as stderr, kept_stderr() as kept:
        console = Console(file=stderr)
        shown = show_progress and console.is_terminal
        try:
            with Progress(*columns, console=console, transient=True, disable=not shown) as progress:
                tracked = progress.track(pool.map(image_facts, paths), total=len(paths))
                facts = dict(zip(paths, tracked, strict=True))
        finally:
            # on an interrupt the thousands of images that still wait are given up
            pool.shutdown(cancel_futures=True)
        remarks = take_remarks(kept, (path for path in paths if not facts[path].fault))
    return facts | {path: replace(facts[path], remark=remark) for path, remark in remarks.items()}


def image_facts(path: Path) -> ImageFacts:
    """The facts of one image."""
    try:
        needs_reader = is_array(path) and array_shape(path) is not None
        image = read_samples(path)
        if is_raw := needs_reader or image.dtype != np.uint8:
            parts = likely_parts(path, image)
            reader = likely_reader(path, parts)
            shown = reader.show(reader.seen(parts))
        else:
            image = shown = image if image.shape[2] == 3 else cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
        darkness = _darkness(image, _eight_bits(path, image)) if is_raw and not needs_reader else ""
    except MissingImage as error:
        return ImageFacts(None, fault="picture_missing", why=error.why)
    except UnreadableImage as error:
        fault = next((kind for of, kind in _FAULTS.items() if isinstance(error, of)), "picture_unreadable")
        return ImageFacts(_size_or_none(path), is_turned(path), fault, error.why)
    height, width = image.shape[:2]
    digest = hashlib.sha1(image.data, usedforsecurity=False)
    digest.update(f"{width}x{height}".encode())
    return ImageFacts(
        (width, height),
        is_turned(path),
        digest=digest.digest(),
        thumbnail=thumbnail(shown),
        darkness=darkness,
        raw=RawFacts.of(image) if is_raw else None,
    )


def darkness_among(entries: Sequence[Any], path_of: Callable[[Any], str | Path]) -> str:
    """How little a model of 8 bits sees of images of 16, of which a few are looked at; empty where it is enough."""
    for place in [*range(0, len(entries), max(1, len(entries) // IMAGES_LOOKED_AT))][:IMAGES_LOOKED_AT]:
        path = path_of(entries[place])
        if darkness := image_facts(Path(path)).darkness:
            return f"{path} has {darkness}"
    return ""


def _eight_bits(path: Path, image: np.ndarray) -> np.ndarray:
    """What training takes of 16 bits."""
    return (image >> 8).astype(np.uint8) if path.suffix.lower() == ".png" else read_image(path)


def _darkness(image: np.ndarray, seen: np.ndarray) -> str:
    """How little training sees of an image of more than 8 bits; empty where it is enough."""
    dark = seen.reshape(*seen.shape[:2], -1).max(axis=2) < LEAST_BRIGHT
    bright = dark.size - np.count_nonzero(dark)
    if bright > MOST_BRIGHT * dark.size:
        return ""
    values, shown = image.max(axis=2)[dark], seen[dark]
    but = f", but for {counted(bright, 'pixel')}" if bright else ""
    told = f"values of {values.min():g} to {values.max():g} in {image.itemsize * 8} bits{but}"
    return f"{told}: the model sees {shown.min()} to {shown.max()} of 255"


def _size_or_none(path: Path) -> tuple[int, int] | None:
    try:
        return image_size(path)
    except UnreadableImage:
        return None


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
