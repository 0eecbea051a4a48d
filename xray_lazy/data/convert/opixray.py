"""The text files of OPIXray and its family: a line `name class x1 y1 x2 y2` for each box, corners in pixels."""

from collections.abc import Iterator
from pathlib import Path

from xray_lazy.data.convert.label import Instance, Label, Reading, as_coordinates

SUFFIX = ".txt"


def open_label(path: Path, reading: Reading) -> Label:
    """Read one text file; it may be empty. Corners in the other order are put right."""
    instances = []
    for line, instance in read_lines(path):
        where = f"{path}: {line}"
        if instance is None:
            reading.fault(where, "no `name class x1 y1 x2 y2`")
        elif reading.knows_class(where, instance.class_name) and instance.box:
            x, y, width, height = instance.box
            box = [min(x, x + width), min(y, y + height), abs(width), abs(height)]
            instances.append(Instance(instance.class_name, box))
    return Label(path, lambda _: instances)


def read_lines(path: Path) -> Iterator[tuple[str, Instance | None]]:
    """Each line with what it has, None where that is no box; where corners are in the other order, sizes are negative.

    There may be more behind a box. The name of the image, which may be an old one, doesn't count.
    """
    for line in path.read_text(encoding="utf-8-sig", errors="replace").splitlines():
        tokens = line.split()
        # names of images may have spaces in them
        places = ((at, _corners(tokens[at + 1 : at + 5])) for at in range(1, len(tokens) - 4))
        place, corners = next(((at, found) for at, found in places if found), (0, None))
        if corners:
            x1, y1, x2, y2 = corners
            yield line.strip(), Instance(tokens[place], [x1, y1, x2 - x1, y2 - y1])
        elif tokens:
            yield line.strip(), None


def _corners(tokens: list[str]) -> tuple[float, float, float, float] | None:
    try:
        x1, y1, x2, y2 = as_coordinates(tokens)
    except ValueError:
        return None
    return x1, y1, x2, y2
