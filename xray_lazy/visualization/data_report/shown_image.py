"""Ground truth of images, each by itself and many on a sheet."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xray_lazy.data.image_detections import Drawn
from xray_lazy.data.image_files.image_file import UnreadableImage
from xray_lazy.data.likely_reader import picture
from xray_lazy.visualization.image_text import draw_text
from xray_lazy.visualization.montage import BACKGROUND, TITLE_INK, contact_sheet, with_title
from xray_lazy.visualization.overlay import draw_instances
from xray_lazy.visualization.prediction_images import write_image

CAPTION_HEIGHT = 13
LARGEST_FACTOR = 3.0


@dataclass(frozen=True)
class ShownImage:
    """An image's file, what is drawn on it, and the line above it."""

    path: Path
    drawn: tuple[Drawn, ...]
    caption: str
    image_id: str = ""


@dataclass(frozen=True)
class SheetLayout:
    """How many cells a sheet has, and how large they are at most, pixels."""

    columns: int = 4
    rows: int = 5
    cell_width: int = 480


def save_shown_images(
    images: Sequence[ShownImage],
    class_names: Sequence[str],
    folder: str | os.PathLike,
    layout: SheetLayout | None = None,
    grey: bool = False,
) -> Iterator[Path]:
    """Write each image to `images/` of `folder`, and all of them on `sheet_1.jpg`, `sheet_2.jpg`, ...

    Args:
        grey: draw on a ground without colours.

    Yields:
        each file as soon as it is written.

    An image that can't be read gets an empty cell which says why.
    """
    folder, layout = Path(folder), layout or SheetLayout()
    per_sheet = layout.columns * layout.rows
    for first in range(0, len(images), per_sheet):
        part = images[first : first + per_sheet]
        scans = [_read(shown.path) for shown in part]
        height = cell_height([scan for scan in scans if isinstance(scan, np.ndarray)], layout.cell_width)
        cells = []
        for number, (shown, scan) in enumerate(zip(part, scans, strict=True), start=first):
            if isinstance(scan, np.ndarray):
                path = folder / "pictures" / f"{number:03d}_{shown.path.stem}.jpg"
                write_image(path, draw_instances(scan, shown.drawn, class_names, grey=grey))
                yield path
                cells.append(draw_cell(scan, shown, class_names, (layout.cell_width, height), grey))
            else:
                cells.append(_with_caption(_note(scan, (layout.cell_width, height)), shown.caption))
        path = folder / f"sheet_{first // per_sheet + 1}.jpg"
        write_image(path, contact_sheet(cells, layout.columns, layout.cell_width))
        yield path


def draw_cell(
    scan: np.ndarray, shown: ShownImage, class_names: Sequence[str], size: tuple[int, int], grey: bool = False
) -> np.ndarray:
    """A BGR image with its instances and its caption, drawn at the (width, height) of a sheet's cell.

    It is scaled before the drawing, not after it, so that lines and labels can be read there.
    """
    width, height = size
    factor = min(width / scan.shape[1], height / scan.shape[0], LARGEST_FACTOR)
    return _with_caption(_centred(draw_instances(scan, shown.drawn, class_names, factor, grey), size), shown.caption)


def cell_height(scans: Sequence[np.ndarray], width: int) -> int:
    """Height of cells for images of different shapes: that of the middle one."""
    shapes = sorted(scan.shape[0] / scan.shape[1] for scan in scans) or [0.75]
    return max(1, round(width * min(1.5, shapes[len(shapes) // 2])))


def _read(path: Path) -> np.ndarray | str:
    try:
        return picture(path)
    except UnreadableImage as error:
        return error.why


def _note(text: str, size: tuple[int, int]) -> np.ndarray:
    cell = np.full((size[1], size[0], 3), BACKGROUND, np.uint8)
    draw_text(cell, text[:70], (CAPTION_HEIGHT, size[1] // 2), TITLE_INK, CAPTION_HEIGHT)
    return cell


def _centred(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    width, height = size
    image = image[:height, :width]
    cell = np.full((height, width, 3), BACKGROUND, np.uint8)
    y, x = (height - image.shape[0]) // 2, (width - image.shape[1]) // 2
    cell[y : y + image.shape[0], x : x + image.shape[1]] = image
    return cell


def _with_caption(cell: np.ndarray, caption: str) -> np.ndarray:
    return with_title(cell, caption, CAPTION_HEIGHT)
