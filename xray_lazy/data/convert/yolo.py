"""YOLO: one text file per picture, one line per instance, numbers as shares of the picture's width and height.

A line is `class x_center y_center width height` or `class x1 y1 x2 y2 x3 y3 ...`.
"""

import re
from pathlib import Path

from xray_lazy.data.convert.label import Instance, Label, Reading
from xray_lazy.data.convert.picture_index import PictureIndex

SUFFIX = ".txt"
# Writers round to six digits or fewer, so that the edge may come out as slightly more than 1.
_TOLERANCE = 1e-3
_OTHER_TEXTS = re.compile(r"(classes|train|val|valid|test|notes|readme.*)$", re.IGNORECASE)


def label_files(names: list[Path], pictures: PictureIndex) -> list[Path]:
    """The text files that hold labels: those below `labels/` if there is such a folder, and no list or read-me."""
    below = [name for name in names if "labels" in name.parts[:-1]]
    return below or [name for name in names if pictures.find(name) or not _OTHER_TEXTS.match(name.stem)]


def open_label(path: Path, reading: Reading) -> Label | None:
    """Read one text file; it may be empty."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        reading.fault(path, f"not a text file ({error})")
        return None
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            try:
                rows.append(_row(line, reading.classes))
            except ValueError as error:
                reading.fault(f"{path}:{number}", str(error))
    return Label(path, lambda size: [_instance(name, values, size) for name, values in rows])


def _row(line: str, classes: tuple[str, ...]) -> tuple[str, list[float]]:
    """(class name, shares) of one line."""
    index, *texts = line.split()
    if not index.isdecimal():
        raise ValueError(f"the class is {index!r}, not a number from 0")
    if int(index) >= len(classes):
        raise ValueError(f"class {index}, but there are {len(classes)} names: 0 to {len(classes) - 1}")
    if len(texts) != 4 and (len(texts) < 6 or len(texts) % 2):
        raise ValueError(
            f"{len(texts)} numbers behind the class; a box has 4, a polygon 2 for each of 3 or more points"
        )
    try:
        values = [float(text) for text in texts]
    except ValueError as error:
        raise ValueError(f"not a number ({error})") from None
    wrong = [text for text, value in zip(texts, values, strict=True) if not -_TOLERANCE <= value <= 1 + _TOLERANCE]
    if wrong:
        raise ValueError(f"{', '.join(wrong[:4])} is outside 0 to 1: shares of the picture are expected, not pixels")
    return classes[int(index)], values


def _instance(name: str, values: list[float], size: tuple[int, int]) -> Instance:
    pixels = [value * size[i % 2] for i, value in enumerate(values)]
    if len(pixels) > 4:
        return Instance(name, mask=[pixels])
    x_center, y_center, width, height = pixels
    return Instance(name, [x_center - width / 2, y_center - height / 2, width, height])
