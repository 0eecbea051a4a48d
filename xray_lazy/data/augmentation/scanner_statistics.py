"""What scanners' colours are known by: a JSON file that `tools/dataset.py colours` makes of images of each."""

import fnmatch
import glob
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from xray_lazy.data.augmentation.transmission import EMPTY, white_level
from xray_lazy.data.image_files.image_file import IMAGE_SUFFIXES, read_image
from xray_lazy.errors import UserError

KIND = "scanner colours"
CHANNELS = ("blue", "green", "red")
# Shares of the pixels in which something is, below the values that a scanner is known by
LEVELS = (0.005, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)
LOOKED_AT = 256  # pixels along the longer edge of an image whose colours are counted
MAKE = "make it with `tools/dataset.py colours --scanner NAME IMAGES --scanner NAME IMAGES --output FILE`"


def measure_scanners(places: Mapping[str, str], most: int = 200) -> dict[str, Any]:
    """The content of a file of colours.

    Args:
        places: by the name of the scanner, a folder of its images, with all below it, or a pattern of their paths.
        most: images of each, evenly spread.

    Raises:
        UserError: there is one scanner alone, or one without images, or two have images in common.
    """
    if len(places) < 2:
        raise UserError("one scanner has no other to look like", "give two or more, each with --scanner NAME IMAGES")
    patterns = {name: _pattern(place) for name, place in places.items()}
    scanners = {}
    for name, pattern in patterns.items():
        paths = _images(places[name])
        if not paths:
            raise UserError(f"scanner {name} has no images: {places[name]}", "give a folder of images, or a pattern")
        for other in patterns:
            if other != name and any(_fits(path, patterns[other]) for path in paths):
                raise UserError(f"scanners {name} and {other} have images in common", "give places that lie apart")
        chosen = [paths[int(place)] for place in np.linspace(0, len(paths) - 1, min(most, len(paths)))]
        scanners[name] = colours_of((read_image(path) for path in chosen), pattern)
    return {"kind": KIND, "levels": list(LEVELS), "scanners": scanners}


def scanner_of(file_name: str, scanners: Mapping[str, Mapping]) -> str | None:
    """The first scanner whose pattern of files fits."""
    return next((name for name, one in scanners.items() if _fits(file_name, one["files"])), None)


def _pattern(place: str) -> str:
    """All in a folder, or the pattern itself; steps up, which no path has, are left out of its beginning."""
    whole = os.path.normpath(os.path.join(glob.escape(place), "*") if os.path.isdir(place) else place)
    while whole.startswith("../"):
        whole = whole.removeprefix("../")
    return whole


def _fits(path: str, pattern: str) -> bool:
    """Whether a path, or the end of it that begins with a folder's or file's name, is as a pattern says."""
    path = os.path.abspath(path)
    return fnmatch.fnmatchcase(path, pattern) or fnmatch.fnmatchcase(path, f"*/{pattern}")


def _images(place: str) -> list[str]:
    """The image files of a place, sorted; `*` matches folders, too."""
    if os.path.isdir(place):
        place = os.path.join(glob.escape(place), "*")
    pattern = os.path.abspath(place)
    fixed = Path(pattern)
    while glob.has_magic(str(fixed)) or not fixed.is_dir():
        fixed = fixed.parent
    files = (os.path.join(folder, file) for folder, _, names in os.walk(fixed) for file in names)
    fitting = (path for path in files if fnmatch.fnmatchcase(path, pattern))
    return sorted(path for path in fitting if Path(path).suffix.lower() in IMAGE_SUFFIXES)


def colours_of(images: Iterable[np.ndarray], files: str) -> dict[str, Any]:
    """What a scanner's colours are known by: of its images (BGR), at least one of which shows something.

    Args:
        files: pattern of the paths of all its images.
    """
    counts, whites = np.zeros((3, 256), np.int64), []
    for image in images:
        every = max(1, max(image.shape[:2]) // LOOKED_AT)
        looked_at, white = np.ascontiguousarray(image[::every, ::every]), white_level(image)
        items = looked_at[(looked_at < EMPTY * white).any(2)]
        counts += np.stack([np.bincount(items[:, channel], minlength=256) for channel in range(3)])
        whites.append(white)
    if not counts.any():
        raise UserError(f"the images {files} show nothing but their background", "give images with bags")
    shares = counts.cumsum(1) / counts.sum(1, keepdims=True)
    white = np.median(whites, 0)
    quantiles = {
        channel: [int(np.searchsorted(shares[place], level)) for level in LEVELS]
        for place, channel in enumerate(CHANNELS)
    }
    whites_by_channel = {channel: float(value) for channel, value in zip(CHANNELS, white, strict=True)}
    return {"files": files, "images": len(whites), "white": whites_by_channel, **quantiles}


def read_colours(path: str) -> dict[str, dict]:
    """The scanners of a file of colours, by name.

    Raises:
        UserError: it is not there, is another file, or has one scanner only.
    """
    try:
        content = json.loads(Path(path).read_text())
    except OSError as error:
        raise UserError(f"the scanners' colours can't be read: {error}", MAKE) from None
    except ValueError as error:
        raise UserError(f"{path} is no JSON file: {error}", MAKE) from None
    if not _is_colours(content):
        raise UserError(f"{path} holds no scanners' colours", MAKE)
    if len(content["scanners"]) < 2:
        raise UserError(f"{path} knows one scanner, which has no other to look like", MAKE)
    return content["scanners"]


def _is_colours(content: Any) -> bool:
    if not isinstance(content, dict) or content.get("kind") != KIND or content.get("levels") != list(LEVELS):
        return False
    scanners = content.get("scanners")
    return isinstance(scanners, dict) and all(_is_scanner(one) for one in scanners.values())


def _is_scanner(one: Any) -> bool:
    if not isinstance(one, dict) or not isinstance(one.get("files"), str) or not isinstance(one.get("white"), dict):
        return False
    return all(
        _are_levels(one.get(channel), len(LEVELS)) and _are_levels([one["white"].get(channel)], 1)
        for channel in CHANNELS
    )


def _are_levels(values: Any, count: int) -> bool:
    is_list = isinstance(values, list) and len(values) == count
    return is_list and all(isinstance(value, int | float) and 0 <= value <= 255 for value in values)
