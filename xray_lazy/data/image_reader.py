"""How image files become what a model sees, and what people see of that: window, gain, attenuation, stacked files."""

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from xray_lazy.data.image_files.image_bytes import UnreadableImage
from xray_lazy.data.image_files.image_file import read_image, read_samples
from xray_lazy.data.synthetic.beam_detector import pseudo_colour
from xray_lazy.data.synthetic.profiles import PROFILES
from xray_lazy.errors import UserError
from xray_lazy.utils.wording import counted

# What a model sees lies between 0 and this, of any number of bits, so that augmentations mean the same.
WHITE = 255.0
# Below this share of the beam the logarithm tells nothing but noise.
LEAST_TRANSMISSION = 1e-6


class Reader(Protocol):
    """What `dataloader.reader` may be: `ImageReader`, or a class of one's own.

    Attributes:
        channels: of an image that it reads.
    """

    channels: int

    def read(self, path: str | os.PathLike, order: str = "BGR") -> np.ndarray:
        """The image for a model, (height, width, channels): uint8, or float32 from 0 to 255.

        Args:
            order: of the channels of colours, "BGR" or "RGB".

        Raises:
            UnreadableImage: a file is missing, damaged, or does not fit to the others of its bag.
            UserError: files are of another kind than the reader is for.
        """
        ...

    def show(self, image: np.ndarray, order: str = "BGR") -> np.ndarray:
        """Of an image as `read` gives it, also resized or augmented, what people see: (height, width, 3) uint8 BGR."""
        ...

    def files(self, path: str | os.PathLike) -> list[Path]:
        """All files of the image that `path` names: itself and those that are read with it."""
        ...

    def fingerprint(self) -> str:
        """Short, and another one where the same files would become another image; empty for uint8."""
        ...


class ImageReader:
    """Files of 8-bit colours as they are, or with a `window` of any number of bits and channels.

    A sample becomes a transmission, `(sample - dark) / (white - dark) * gain`, clipped to 0 to 1; or its attenuation,
    `-ln(transmission) / deepest`, clipped likewise. A model sees 255 times that, float32.

    Args:
        channels: of all files of an image together.
        window: [dark, white]: the samples without a beam and with nothing in it; one pair for all channels or one for
            each. None is for 8-bit colours, which stay as they are.
        gain: factor on the transmission, one for all channels or one for each.
        log_attenuation: see the attenuation, in which materials add up, in place of the transmission.
        deepest: the attenuation that becomes 255; 7 lets a thousandth of the beam through.
        more_files: further files of an image, whose channels are stacked behind those of the file that the set names:
            for each [what its path has, what the further path has in that place], such as [["_low", "_high"]].
        shown: the channels that people see: low and high energy as a scanner's colours, one as grey, three as blue,
            green, red. None takes all of up to three channels, and of more the first and the last.

    Raises:
        UserError: the numbers don't fit together.
    """

    def __init__(
        self,
        channels: int = 3,
        window: Sequence[float] | Sequence[Sequence[float]] | None = None,
        gain: float | Sequence[float] = 1.0,
        log_attenuation: bool = False,
        deepest: float = 7.0,
        more_files: Sequence[Sequence[str]] = (),
        shown: Sequence[int] | None = None,
    ):
        self.channels = channels
        self.more_files = [tuple(map(str, pair)) for pair in more_files or ()]
        self.window = None if window is None else _for_each(window, channels, 2, "dataloader.reader.window")
        self.gain = _for_each(gain, channels, 1, "dataloader.reader.gain")
        self.log_attenuation, self.deepest = log_attenuation, float(deepest)
        self.shown = list(shown) if shown is not None else list(range(channels)) if channels <= 3 else [0, channels - 1]
        self._tables: dict[tuple, np.ndarray] = {}
        self._check()

    def read(self, path: str | os.PathLike, order: str = "BGR") -> np.ndarray:
        """See `Reader`."""
        if self.window is None:
            return read_image(path, order)
        files = self.files(path)
        parts = [read_samples(file, order) for file in files]
        for file, part in zip(files[1:], parts[1:], strict=True):
            if part.shape[:2] != parts[0].shape[:2]:
                size, its = ("{1}x{0}".format(*one.shape) for one in (part, parts[0]))
                raise UnreadableImage(file, f"is {size}, but {path}, which it belongs to, is {its}")
        there = sum(part.shape[2] for part in parts)
        if there != self.channels:
            have = f"{path} has" if len(parts) == 1 else f"{path} and its further files have"
            raise UserError(
                f"{have} {counted(there, 'channel')}, dataloader.reader.channels is {self.channels}",
                f"set dataloader.reader.channels={there}, or dataloader.reader.more_files to an image's other files",
            )
        return self.seen(parts)

    def seen(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """As `read`, of the samples (height, width, channels) in the files of an image."""
        image = np.empty((*parts[0].shape[:2], self.channels), np.float32)
        channel = 0
        for part in parts:
            for plane in np.moveaxis(part, 2, 0):
                image[:, :, channel] = self._seen(plane, channel)
                channel += 1
        return image

    def show(self, image: np.ndarray, order: str = "BGR") -> np.ndarray:
        """See `Reader`."""
        if self.window is None:
            return np.ascontiguousarray(image if order == "BGR" else image[:, :, ::-1])
        chosen = np.asarray(image, np.float32)[:, :, self.shown].clip(0, WHITE) / np.float32(WHITE)
        attenuation = chosen * np.float32(self.deepest) if self.log_attenuation else None
        if len(self.shown) == 2:
            if attenuation is None:
                attenuation = -np.log(np.maximum(chosen, np.float32(LEAST_TRANSMISSION)))
            return _scanner_colours(attenuation)
        seen = chosen if attenuation is None else 1 - chosen
        if len(self.shown) == 3 and order == "RGB":
            seen = seen[:, :, ::-1]
        return _grey_picture(seen)

    def files(self, path: str | os.PathLike) -> list[Path]:
        """See `Reader`."""
        found = [Path(path)]
        for named, other in self.more_files:
            before, there, after = os.fspath(path).rpartition(named)
            if not there:
                raise UserError(
                    f"the path {path} has no {named!r}, in whose place {other!r} would name its further file",
                    "set dataloader.reader.more_files to what differs between the paths of an image's files",
                )
            found.append(Path(before + other + after))
        return found

    def fingerprint(self) -> str:
        """See `Reader`."""
        if self.window is None:
            return ""
        seen = {key: value for key, value in self.settings().items() if key != "shown"}
        return hashlib.sha1(repr(seen).encode(), usedforsecurity=False).hexdigest()[:8]

    def settings(self) -> dict[str, Any]:
        """Its arguments, as JSON holds them."""
        return {
            "channels": self.channels,
            "window": self.window and [list(pair) for pair in self.window],
            "gain": [gain for (gain,) in self.gain],
            "log_attenuation": self.log_attenuation,
            "deepest": self.deepest,
            "more_files": [list(pair) for pair in self.more_files],
            "shown": self.shown,
        }

    def _seen(self, plane: np.ndarray, channel: int) -> np.ndarray:
        if plane.dtype not in (np.uint8, np.uint16):
            return self._converted(plane, channel)
        key = (plane.dtype.str, channel)
        if key not in self._tables:
            self._tables[key] = self._converted(np.arange(np.iinfo(plane.dtype).max + 1), channel)
        return self._tables[key][plane]

    def _converted(self, samples: np.ndarray, channel: int) -> np.ndarray:
        assert self.window is not None
        (dark, white), (gain,) = self.window[channel], self.gain[channel]
        transmission = (samples.astype(np.float64) - dark) * (gain / (white - dark))
        if not self.log_attenuation:
            return (WHITE * transmission.clip(0, 1)).astype(np.float32)
        attenuation = -np.log(transmission.clip(LEAST_TRANSMISSION, 1))
        return (WHITE * (attenuation / self.deepest).clip(0, 1)).astype(np.float32)

    def _check(self) -> None:
        if self.window is None and (self.channels != 3 or self.more_files):
            raise UserError(
                f"dataloader.reader.window is null, which is for files of 8-bit colours, but there are "
                f"{counted(self.channels, 'channel')} of {counted(1 + len(self.more_files), 'file')}",
                "set dataloader.reader.window to [dark, white], such as dataloader.reader.window='[0, 65535]'",
            )
        idle = {"gain": any(gain != 1 for (gain,) in self.gain), "log_attenuation": self.log_attenuation}
        if self.window is None and (named := [f"dataloader.reader.{key}" for key, given in idle.items() if given]):
            raise UserError(
                f"dataloader.reader.window is null, which leaves 8-bit colours as they are, whatever {named[0]} says",
                "set dataloader.reader.window to [dark, white], such as dataloader.reader.window='[0, 255]', "
                f"or leave out {' and '.join(named)}",
            )
        for dark, white in self.window or ():
            if dark == white:
                raise UserError(
                    f"dataloader.reader.window from {dark:g} to {white:g} holds nothing", "give [dark, white]"
                )
        if any(len(pair) != 2 or not pair[0] for pair in self.more_files):
            raise UserError(
                f"dataloader.reader.more_files is {[list(pair) for pair in self.more_files]}",
                "give pairs of texts, such as dataloader.reader.more_files='[[_low, _high]]'",
            )
        if len(self.shown) not in (1, 2, 3) or not all(-self.channels <= one < self.channels for one in self.shown):
            raise UserError(
                f"dataloader.reader.shown is {self.shown}, of {counted(self.channels, 'channel')}",
                "give one to three of them, counted from 0: [low energy, high energy]",
            )


def _scanner_colours(attenuation: np.ndarray) -> np.ndarray:
    """Organic things orange, mixed and inorganic ones green, metal blue, and air white: (H, W, 3) uint8 BGR.

    Args:
        attenuation: -ln of the transmission at the low and the high energy, (H, W, 2) float32.
    """
    low, high = (np.ascontiguousarray(plane, np.float32) for plane in np.moveaxis(attenuation, 2, 0))
    return pseudo_colour(np.stack([low, high]), PROFILES["demo"])


def _grey_picture(seen: np.ndarray) -> np.ndarray:
    """Grey, or blue, green and red, from (H, W, 1 or 3) of 0 to 1: (H, W, 3) uint8 BGR."""
    levels = np.rint(255 * seen.clip(0, 1)).astype(np.uint8)
    return cv2.cvtColor(levels, cv2.COLOR_GRAY2BGR) if levels.shape[2] == 1 else np.ascontiguousarray(levels)


def read_record(record: dict, order: str = "BGR", reader: Reader | None = None) -> np.ndarray:
    """The image of a dataset dict, as `reader` gives it, or `read_image` without one.

    Raises:
        UnreadableImage: as `Reader.read`.
        UserError: the file has another size than the data set says.
    """
    image = reader.read(record["file_name"], order) if reader else read_image(record["file_name"], order)
    if image.shape[:2] != (record["height"], record["width"]):
        raise UserError(
            f"{record['file_name']} is {image.shape[1]}x{image.shape[0]}, "
            f"its data set says {record['width']}x{record['height']}",
            "`tools/dataset.py repair` takes the sizes from the files",
        )
    return image


def reader_of(dataloader: Mapping) -> Reader | None:
    """How the config's test loader reads files; None for 8-bit colours, and where it doesn't say."""
    from detectron2.config import instantiate

    mapper = (dataloader.get("test") or {}).get("mapper")
    node = mapper.get("reader") if isinstance(mapper, Mapping) else None
    return instantiate(node) if node else None


def _plain(given: Any) -> Any:
    """The config's lists as Python's."""
    return given if isinstance(given, str) or not isinstance(given, Iterable) else [_plain(one) for one in given]


def _for_each(given: object, channels: int, length: int, key: str) -> list[tuple[float, ...]]:
    """`length` numbers for each channel, from one set for all or from one for each."""
    try:
        numbers = np.asarray(_plain(given), np.float64)
        if numbers.ndim == 0 or (length > 1 and numbers.ndim == 1):
            numbers = np.broadcast_to(numbers, (channels, length))
        numbers = numbers.reshape(channels, length)
    except (TypeError, ValueError):
        one = "a number" if length == 1 else "[dark, white]"
        raise UserError(
            f"{key} is {given}, for {counted(channels, 'channel')}", f"give {one} for all channels, or one for each"
        ) from None
    return [tuple(map(float, one)) for one in numbers]
