"""How an image may be read of which nothing is known but its file, and what people see of images."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from xray_lazy.data.image_files.image_file import read_all_bits, read_samples
from xray_lazy.data.image_files.stored_arrays import is_array
from xray_lazy.data.image_reader import ImageReader, Reader

# A share of an image's pixels that is not brighter than the air in it.
BRIGHT = 0.995
# A share of that which a detector may read without a beam.
MOST_DARK = 0.02
# How files of the low and the high energy are named.
ENERGIES = (("low", "high"), ("Low", "High"), ("LOW", "HIGH"), ("_le", "_he"), ("_LE", "_HE"))


def picture(path: str | os.PathLike, reader: Reader | None = None) -> np.ndarray:
    """What people see of an image, (height, width, 3) uint8 BGR: as `reader` shows it.

    Without one, or by one for 8-bit colours, these are as they are, and others are seen by a `likely_reader`.

    Raises:
        UnreadableImage, UserError: as `Reader.read`.
    """
    if reader is None or not reader.fingerprint():
        if not is_array(path) and (image := read_all_bits(path)).dtype == np.uint8:
            return image
        parts = likely_parts(path, read_samples(path))
        likely = likely_reader(path, parts)
        return likely.show(likely.seen(parts))
    return reader.show(reader.read(path))


def likely_parts(path: str | os.PathLike, samples: np.ndarray) -> list[np.ndarray]:
    """The samples (height, width, channels) of a file, and those of the other energy where its name tells of one."""
    for _, _, file in other_energies(path) if samples.shape[2] == 1 else ():
        further = read_samples(file)
        if further.shape == samples.shape:
            return [samples, further]
    return [samples]


def likely_reader(path: str | os.PathLike, parts: Sequence[np.ndarray]) -> ImageReader:
    """A reader for `likely_parts`: air is nearly the brightest in them."""
    windows = [_likely_window(part) for part in parts]
    if len(parts) == 1:
        return ImageReader(parts[0].shape[2], windows[0])
    named, other, _ = next(other_energies(path))
    shown = (0, 1) if (named, other) in ENERGIES else (1, 0)
    return ImageReader(2, windows, more_files=[[named, other]], shown=shown)


def other_energies(path: str | os.PathLike) -> Iterator[tuple[str, str, Path]]:
    """The files that are named as the other energy of this one: what they have in place of what, and their paths."""
    for low, high in ENERGIES:
        for named, other in ((low, high), (high, low)):
            before, there, after = os.fspath(path).rpartition(named)
            if there and (file := Path(before + other + after)).is_file():
                yield named, other, file


def _likely_window(samples: np.ndarray) -> list[float]:
    """Of detectors that count little without a beam, if anything."""
    darkest, white = float(samples.min()), float(np.quantile(samples[::4, ::4], BRIGHT))
    dark = darkest if darkest < MOST_DARK * white else 0.0
    return [dark, white if white > dark else dark + 1]
