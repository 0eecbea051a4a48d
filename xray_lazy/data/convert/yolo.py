"""YOLO: one text file per image, one line per instance, numbers as shares of the image's width and height.

A line is `class x_center y_center width height`, in a pose set with key points behind it, or `class x1 y1 x2 y2 ...`.
"""

import re
from pathlib import Path, PurePath

from xray_lazy.data.check.values import as_whole
from xray_lazy.data.convert.image_index import ImageIndex, is_label_folder
from xray_lazy.data.convert.label import Instance, Label, LongRow, Reading
from xray_lazy.data.image_files.image_file import IMAGE_SUFFIXES
from xray_lazy.errors import UserError
from xray_lazy.utils.wording import AS_UTF_8, counted, not_utf_8

SUFFIX = ".txt"
# Writers round to six digits or fewer, so that the edge may come out as slightly more than 1.
_TOLERANCE = 1e-3
_OTHER_TEXTS = re.compile(r"(classes|train|val|valid|test|notes|readme.*)$", re.IGNORECASE)
_POSE_NEEDS = "a YOLO pose set needs its data.yaml with kpt_shape"
_POSE = f"these look like YOLO pose labels, a box with key points: {_POSE_NEEDS} (--classes FILE)"


def label_files(names: list[Path], images: ImageIndex) -> list[Path]:
    """The text files that hold labels: those below `labels/` if there is such a folder, and no list or read-me."""
    below = [name for name in names if any(map(is_label_folder, name.parts[:-1]))]
    return below or [name for name in names if images.find(name) or not _OTHER_TEXTS.match(name.stem)]


def open_label(path: Path, reading: Reading) -> Label | None:
    """Read one text file; it may be empty."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        reading.fault(path, f"{not_utf_8(error)}: {AS_UTF_8}")
        return None
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            try:
                rows.append(_row(line, reading))
            except ValueError as error:
                reading.fault(f"{path}:{number}", str(error))
    return Label(path, lambda size: [_instance(name, values, size) for name, values in rows])


def note_pose(labels: list[Label], reading: Reading) -> None:
    """Note a fault where all that passes for polygons in a set looks like boxes with key points."""
    rows = reading.long_rows
    alike = len({row.numbers for row in rows}) == 1 and all(row.may_be_pose for row in rows)
    # a small outline may pass for points in a box by chance, but its second point is near the others
    far = sum(count for row, count in rows.items() if row.is_far)
    if alike and 2 * far > sum(rows.values()):
        reading.fault(labels[0].path.parent, f"{_POSE}; `kpt_shape: [0, 2]` says that they are polygons")


def _row(line: str, reading: Reading) -> tuple[str, list[float]]:
    """(class name, shares) of one line."""
    index, *texts = line.split()
    number, classes = as_whole(index), reading.classes or ()
    if len(texts) >= 5 and PurePath(index).suffix.lower() in IMAGE_SUFFIXES:
        raise UserError(
            "these are no YOLO labels: an image, its class and corners in pixels in each line, as OPIXray's text files "
            f"have them, e.g. {line.strip()}",
            "`tools/dataset.py convert opixray FOLDER` takes them, and `import` those of public sets",
        )
    if number is None or number < 0:
        raise ValueError(f"the class is {index!r}, not a number from 0")
    if number >= len(classes):
        raise ValueError(
            f"class {index}, but {counted(len(classes), 'name is there', 'names are there')}: 0 to {len(classes) - 1}"
        )
    if reading.keypoints and len(texts) > 4:
        if len(texts) != 4 + reading.keypoints:
            raise ValueError(
                f"{counted(len(texts), 'number')} behind the class; by kpt_shape there are {4 + reading.keypoints}"
            )
        texts = texts[:4]
        reading.left_out["set of key points", "sets of key points"] += 1
    if len(texts) != 4 and (len(texts) < 6 or len(texts) % 2):
        raise ValueError(
            f"{counted(len(texts), 'number')} behind the class; a box has 4, a polygon 2 for each of 3 or more points; "
            f"{_POSE_NEEDS}"
        )
    try:
        values = [float(text) for text in texts]
    except ValueError as error:
        raise ValueError(f"not a number ({error})") from None
    wrong = [text for text, value in zip(texts, values, strict=True) if not -_TOLERANCE <= value <= 1 + _TOLERANCE]
    if len(values) > 4 and reading.keypoints is None:
        points = _visible_points(values)
        if wrong and points is not None:
            raise ValueError(_POSE)
        is_far = points is not None and _is_far(values, points)
        reading.long_rows[LongRow(len(values), points is not None, is_far)] += 1
    if wrong:
        raise ValueError(f"{', '.join(wrong[:4])} is outside 0 to 1: shares of the image are expected, not pixels")
    return classes[number], values


def _visible_points(values: list[float]) -> list[tuple[float, float]] | None:
    """The key points of a line that may be a box with points in it, `x y` or `x y visibility`; None if it can't be."""
    (x_center, y_center, width, height), rest = values[:4], values[4:]
    if min(x_center, 1 - x_center) < width / 2 - _TOLERANCE or min(y_center, 1 - y_center) < height / 2 - _TOLERANCE:
        return None
    readings = [zip(rest[0::2], rest[1::2], strict=True)] if len(rest) % 2 == 0 else []
    if len(rest) % 3 == 0 and set(rest[2::3]) <= {0, 1, 2}:
        readings.append(zip(rest[0::3], rest[1::3], strict=True))
    for points in readings:
        visible = [point for point in points if point != (0, 0)]
        if all(
            abs(x - x_center) <= width / 2 + _TOLERANCE and abs(y - y_center) <= height / 2 + _TOLERANCE
            for x, y in visible
        ):
            return visible
    return None


def _is_far(values: list[float], points: list[tuple[float, float]]) -> bool:
    """Whether what would be the second point of a polygon lies far from all others: it is a width and height then."""
    for axis in (0, 1):
        others = [values[axis], *(point[axis] for point in points)]
        margin = (
            3 * (max(others) - min(others)) / len(others)
        )  # the more points, the nearer are an outline's neighbours
        if not min(others) - margin <= values[2 + axis] <= max(others) + margin:
            return True
    return False


def _instance(name: str, values: list[float], size: tuple[int, int]) -> Instance:
    pixels = [value * size[i % 2] for i, value in enumerate(values)]
    if len(pixels) > 4:
        return Instance(name, mask=[pixels])
    x_center, y_center, width, height = pixels
    return Instance(name, [x_center - width / 2, y_center - height / 2, width, height])
