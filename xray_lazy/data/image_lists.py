"""Lists of images by name, as public sets have them for their splits and subsets."""

import csv
from pathlib import Path, PurePath

from xray_lazy.errors import UserError

ENDINGS = ("jpg", "jpeg", "png", "bmp", "tif", "tiff")


def read_image_list(path: Path) -> list[str]:
    """Names as `image_stem` gives them, one or a CSV's row to a line, in the file's order.

    Raises:
        UserError: the file can't be read.
    """
    return [name for name, _ in read_image_table(path)]


def read_image_table(path: Path, needs_header: bool = False) -> list[tuple[str, frozenset[str]]]:
    """As `read_image_list`, each with the columns in which a CSV has a 1: the classes of its items.

    Raises:
        UserError: the file can't be read, or lacks the header that it needs.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = [[cell.strip() for cell in row] for row in csv.reader(stream) if any(map(str.strip, row))]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} can't be read as a list of images: {error}", "one name on each line") from None
    header = rows.pop(0) if rows and rows[0][0] == "name" else []
    if rows and needs_header and not header:
        raise UserError(f"{path} has no column name", "its first line is name,Gun,Knife,Wrench,Pliers,Scissors")
    ones = ([column for column, cell in zip(header, row, strict=False) if cell in ("1", "1.0")] for row in rows)
    return [(image_stem(row[0]), frozenset(columns)) for row, columns in zip(rows, ones, strict=True)]


def image_stem(name: str) -> str:
    """An image's name without folders and ending; lists leave these out."""
    last = PurePath(name).name
    stem, dot, ending = last.rpartition(".")
    return stem if dot and ending.lower() in ENDINGS else last
