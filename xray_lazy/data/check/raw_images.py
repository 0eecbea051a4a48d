"""Raw scans, of other than 8-bit colours: what they have, and overrides that let a config read them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xray_lazy.data.image_files.image_file import read_samples
from xray_lazy.data.image_reader import ImageReader
from xray_lazy.data.likely_reader import BRIGHT, likely_parts, likely_reader

# Of a set, evenly spaced; and of their pixels each fourth along both sides.
IMAGES_MEASURED, STEP = 32, 4
# Two energies whose whites differ by less than this share get one window.
ALIKE = 0.05


@dataclass(frozen=True)
class RawFacts:
    """What a file stores.

    Attributes:
        bits: of a sample.
        used: of these; as many as `bits` for floats.
        channels: of this file.
    """

    bits: int
    used: int
    channels: int

    @classmethod
    def of(cls, samples: np.ndarray) -> "RawFacts":
        """Of samples (height, width, channels); single pixels that are brighter than all others don't count."""
        bits = 8 * samples.itemsize
        if samples.dtype.kind == "f":
            return cls(bits, bits, samples.shape[2])
        white = float(np.quantile(samples[::STEP, ::STEP], BRIGHT))
        return cls(bits, min(bits, math.ceil(math.log2(max(white, 1) + 1))), samples.shape[2])


@dataclass(frozen=True)
class RawImages:
    """What the raw images of a set have in common.

    Attributes:
        bits, used, channels: of all that there are, ascending; `used` is the most of any image.
        further: the file of the other energy beside each image, as [what its name has, what the other has], or empty.
        overrides: for a config; empty where the images differ too much for one reader.
        measured: images of which the overrides are.
    """

    bits: tuple[int, ...]
    used: int
    channels: tuple[int, ...]
    further: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    measured: int = 0

    @property
    def unused(self) -> int:
        """Upper bits that no image uses."""
        return min(self.bits) - self.used

    def summary(self) -> str:
        """In a line."""
        bits = f"{_either(self.bits)} bits" + (f", of which {self.used} are used" if self.unused > 0 else "")
        channels = f"{_either(self.channels)} {'channel' if self.channels == (1,) else 'channels'}"
        return f"{bits}, {channels}" + (f", beside each {self.further[0]} a {self.further[1]}" if self.further else "")


def raw_images(facts: Sequence[tuple[Path, RawFacts]]) -> RawImages | None:
    """What the raw images of a set have, of which a few are read again; None where there are none."""
    if not facts:
        return None
    bits, channels = (tuple(sorted({getattr(one, name) for _, one in facts})) for name in ("bits", "channels"))
    used = max(one.used for _, one in facts)
    if len(channels) > 1:
        return RawImages(bits, used, channels)
    measured = [path for path, _ in facts[:: math.ceil(len(facts) / IMAGES_MEASURED)]]
    reader, images = _common_reader(measured)
    seen = np.concatenate([reader.seen(parts).reshape(-1, reader.channels) for parts in images])
    settings = reader.settings()
    if all(pair == settings["window"][0] for pair in settings["window"]):
        settings["window"] = settings["window"][0]
    keys = ("channels", "window", "log_attenuation", *(("more_files",) if reader.more_files else ()))
    overrides = [f"dataloader.reader.{key}={_written(settings[key])}" for key in keys]
    overrides += [f"model.pixel_mean={_written(seen.mean(0, np.float64).round(1).tolist())}"]
    overrides += [f"model.pixel_std={_written(seen.std(0, np.float64).clip(1).round(1).tolist())}"]
    further = reader.more_files[0] if reader.more_files else ()
    return RawImages(bits, used, channels, further, tuple(overrides), len(measured))


def _common_reader(paths: Sequence[Path]) -> tuple[ImageReader, list[list[np.ndarray]]]:
    """A reader for all of them, and the samples of some pixels of each."""
    images, readers = [], []
    for path in paths:
        parts = likely_parts(path, read_samples(path))
        readers.append(likely_reader(path, parts))
        images.append([part[::STEP, ::STEP] for part in parts])
    more_files = readers[0].more_files
    if any(one.more_files != more_files for one in readers):
        images, more_files = [parts[:1] for parts in images], []
    windows = np.array([one.window[: sum(part.shape[2] for part in images[0])] for one in readers if one.window])
    window = np.stack([windows[..., 0].min(0), np.median(windows[..., 1], axis=0)], 1)
    if np.ptp(window[:, 1]) <= ALIKE * window[:, 1].max():
        window = np.array([[window[:, 0].min(), window[:, 1].max()]])
    window = window.round() if window.max() > 255 else window
    given = window if len(window) == windows.shape[1] else window[0]
    return ImageReader(windows.shape[1], given.tolist(), log_attenuation=True, more_files=more_files), images


def _written(value: object) -> str:
    """As an override has it; quoted for a shell where that is needed."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        inner = ", ".join(_written(one).strip("'") for one in value)
        return f"'[{inner}]'"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _either(numbers: Sequence[int]) -> str:
    return " or ".join(map(str, numbers))
