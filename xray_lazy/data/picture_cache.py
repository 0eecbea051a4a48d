"""Decoded images on disk at the sizes that training asks for, shared by all reading processes of a machine."""

import errno
import hashlib
import logging
import os
import time
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from detectron2.data import transforms as T
from PIL import Image

from xray_lazy.data.image_reader import Reader, read_record
from xray_lazy.data.image_transforms import ImageInput, resize
from xray_lazy.errors import UserError

logger = logging.getLogger(__name__)

GIB = 2**30
# Each process counts the files anew after it has written so much of the limit itself.
COUNT_AGAIN = 0.01
# A temporary file of this age, in seconds, belongs to a process that was killed.
ABANDONED = 3600
# In an entry's name before its reader's settings: it holds float32.
_FLOATS = "_f"


class PictureCache:
    """Images that were decoded and resized before, memory-mapped: the same pixels, without the work.

    Args:
        folder: on a fast local disk; several trainings may share it. None turns the cache off.
        max_gib: so much it holds. Nothing is removed for new images: all of them are asked for equally often, so that
            those that stay save the most. Each process may go 1 % above.

    An entry belongs to a file's path, size and time of change, its place in memory (BGR or RGB), its reader's settings
    and its target size.
    A changed image takes its old entries' place. Entries appear under their names when they are complete, so a killed
    process or several that write the same one do no harm; with a full disk, training goes on without new entries.
    """

    def __init__(self, folder: str | None = None, max_gib: float = 20.0):
        if max_gib <= 0:
            raise UserError(f"an image cache of {max_gib} GiB holds nothing", "give a max_gib above 0, or no folder")
        self.folder = Path(folder) if folder else None
        self.max_bytes = int(max_gib * GIB)
        self._is_open = False
        self._is_full = False
        self._counted = self._written = 0

    def __bool__(self) -> bool:
        return self.folder is not None

    def image(
        self,
        record: dict,
        order: str,
        size: tuple[int, int],
        sizes: Iterable[tuple[int, int]],
        reader: Reader | None = None,
    ) -> np.ndarray:
        """The image of a dataset dict, bilinearly resized: (height, width, channels), planes in memory.

        Args:
            record: with `file_name`, `height` and `width`.
            order: "BGR" or "RGB".
            size: (height, width) that is wanted.
            sizes: that will be wanted of it; they are made as well when the image has to be decoded.
            reader: how its files are read; None for 8-bit colours.

        Raises:
            UnreadableImage: the file itself can't be read.
        """
        path = record["file_name"]
        try:
            stamp = _stamp(path, order, reader)
        except OSError:
            return resize(read_record(record, order, reader), *size)  # which says what is wrong
        found = self._stored(path, stamp, size)
        if found is not None:
            return found
        source = read_record(record, order, reader)
        wanted = resize(source, *size)
        bytes_per_pixel = source.shape[2] * source.itemsize
        for one in {size, *sizes}:
            if self._stored(path, stamp, one) is None and self._has_room(bytes_per_pixel * one[0] * one[1]):
                self._store(path, stamp, wanted if one == size else resize(source, *one))
        return wanted

    def _entry(self, path: str, stamp: str, size: tuple[int, int]) -> Path:
        name = hashlib.sha1(os.path.abspath(path).encode()).hexdigest()
        assert self.folder is not None
        return self.folder / name[:2] / f"{name[2:]}.{stamp}.{size[0]}x{size[1]}"

    def _stored(self, path: str, stamp: str, size: tuple[int, int]) -> np.ndarray | None:
        try:
            # writing into it changes this process's copy alone
            stored = np.asarray(np.memmap(self._entry(path, stamp, size), np.uint8, mode="c"))
            planes = stored.view(np.float32) if _FLOATS in stamp else stored
            return planes.reshape(-1 if _FLOATS in stamp else 3, *size).transpose(1, 2, 0)
        except (OSError, ValueError):  # there is none; or a power failure left it too short
            return None

    def _store(self, path: str, stamp: str, image: np.ndarray) -> None:
        entry = self._entry(path, stamp, image.shape[:2])
        temporary = entry.with_name(f".{uuid.uuid4().hex}.tmp")
        try:
            entry.parent.mkdir(parents=True, exist_ok=True)
            self._remove_outdated(entry, stamp)
            # without waiting for the disk, unlike files that must outlive a power failure
            with open(temporary, "wb") as stream:
                for plane in cv2.split(image):
                    stream.write(plane.data)
            os.replace(temporary, entry)
            self._written += image.nbytes
        except OSError as error:
            temporary.unlink(missing_ok=True)
            self._is_full = True
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            logger.warning(
                "the image cache %s takes no more: %s. Training goes on and reads other images from their files; "
                "to save the time, make room or set dataloader.train.mapper.cache.folder to another disk",
                self.folder,
                "its disk is full" if full else f"it can't be written ({error})",
            )

    def _remove_outdated(self, entry: Path, stamp: str) -> None:
        for other in entry.parent.glob(f"{entry.name.split('.')[0]}.*"):
            if other.name.split(".")[1].split("-")[0] != stamp.split("-")[0]:
                other.unlink(missing_ok=True)

    def _has_room(self, size: int) -> bool:
        if self._is_full:
            return False
        if not self._is_open or self._written > COUNT_AGAIN * self.max_bytes:
            self._counted, self._written, self._is_open = self._count(), 0, True
        self._is_full = self._counted + self._written + size > self.max_bytes
        if self._is_full:
            logger.info("the image cache %s has reached its %.1f GiB", self.folder, self.max_bytes / GIB)
        return not self._is_full

    def _count(self) -> int:
        assert self.folder is not None
        total = 0
        for folder, _, names in os.walk(self.folder):
            for name in names:
                file = Path(folder, name)
                try:
                    facts = file.stat()
                    if name.endswith(".tmp") and time.time() - facts.st_mtime > ABANDONED:
                        file.unlink()
                    else:
                        total += facts.st_size
                except OSError:  # it has gone in this moment, or is another person's
                    continue
        return total


class CachedInput(ImageInput):
    """An image that is read when the first augmentation has chosen its size.

    That one must look at the image's size alone; see `chosen_by_size`.
    """

    def __init__(
        self,
        cache: PictureCache,
        record: dict,
        order: str,
        first: T.Augmentation,
        annotations: Sequence[dict] = (),
        reader: Reader | None = None,
    ):
        channels = reader.channels if reader else 3
        size_without_memory = np.broadcast_to(np.uint8(0), (record["height"], record["width"], channels))
        super().__init__(size_without_memory, annotations, record["file_name"])
        self._unread = (cache, record, order, first, reader)

    def _transformed(self, transform: T.Transform) -> np.ndarray:
        if self._unread is None:
            return super()._transformed(transform)
        (cache, record, order, first, reader), self._unread = self._unread, None
        whole = record["height"], record["width"]
        resizes = type(transform) is T.ResizeTransform and transform.interp == Image.Resampling.BILINEAR
        size = (transform.new_h, transform.new_w) if resizes else whole
        self.image = cache.image(record, order, size, _sizes(first, *whole) if resizes else [whole], reader)
        return self.image if resizes else super()._transformed(transform)


def chosen_by_size(augmentation: T.Augmentation) -> bool:
    """Whether an augmentation is a resize that needs no pixels to know what it does."""
    return type(augmentation) in (T.ResizeShortestEdge, T.Resize)


def _sizes(augmentation: T.Augmentation, height: int, width: int) -> list[tuple[int, int]]:
    """The sizes (height, width) between which an augmentation draws, where they are few."""
    if type(augmentation) is T.ResizeShortestEdge and not augmentation.is_range:
        edges, longest = augmentation.short_edge_length, augmentation.max_size
        shapes = [T.ResizeShortestEdge.get_output_shape(height, width, edge, longest) for edge in edges if edge]
        return [(max(height, 1), max(width, 1)) for height, width in shapes]
    return []


def _stamp(path: str, order: str, reader: Reader | None) -> str:
    """What a changed file, or another library that decodes or resizes it, changes."""
    facts = os.stat(path)
    libraries = f"{cv2.__version__} {torch.__version__}"
    settings = reader.fingerprint() if reader else ""
    for file in reader.files(path)[1:] if reader else ():
        its = os.stat(file)
        libraries += f" {its.st_size} {its.st_mtime_ns}"
    digest = hashlib.sha1(libraries.encode()).hexdigest()[:8]
    # what follows the dash are other forms of the same file, which stay beside each other
    return f"{facts.st_size:x}_{facts.st_mtime_ns:x}_{digest}-{order}{_FLOATS + settings if settings else ''}"
