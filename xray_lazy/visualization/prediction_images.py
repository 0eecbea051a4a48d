"""Write images of predictions beside the ground truth, and one contact sheet of them all."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import cv2
import numpy as np

from xray_lazy.data.image_reader import Reader
from xray_lazy.data.likely_reader import picture
from xray_lazy.utils.atomic_file import atomic_writer
from xray_lazy.visualization.montage import contact_sheet, fit_into, side_by_side
from xray_lazy.visualization.overlay import draw_instances, instances_of_prediction, instances_of_record

if TYPE_CHECKING:
    from detectron2.structures import Instances

CONTACT_SHEET = "contact_sheet.jpg"
SHEET_CELL_WIDTH = 960
JPEG_QUALITY = 92

Entry = TypeVar("Entry")


def save_prediction_images(
    predictions: Iterable[tuple[Mapping, "Instances"]],
    class_names: Sequence[str],
    folder: str | os.PathLike,
    score_threshold: float = 0.5,
    reader: Reader | None = None,
) -> list[Path]:
    """Write one image per prediction, the ground truth on its left, and `contact_sheet.jpg` of all.

    Args:
        predictions: pairs of a dataset dict (with `annotations` where there is ground truth) and the model's
            instances for it; one pair is held at a time.
        class_names: by class id.
        folder: made if need be; images are named by their order and the scan's file.
        score_threshold: predictions below it are not drawn.
        reader: of the scans' files; None for 8-bit colours.

    Returns:
        The files written, the contact sheet last; nothing for no predictions.

    Raises:
        UnreadableImage: a scan can't be read.
    """
    folder = Path(folder)
    paths, thumbnails = [], []
    for number, (record, instances) in enumerate(predictions):
        image = picture(record["file_name"], reader)
        pair = side_by_side(
            draw_instances(image, instances_of_record(record), class_names),
            draw_instances(image, instances_of_prediction(instances, score_threshold), class_names),
        )
        paths.append(folder / f"{number:03d}_{Path(record['file_name']).stem}.jpg")
        write_image(paths[-1], pair)
        thumbnails.append(fit_into(pair, SHEET_CELL_WIDTH, pair.shape[0]))
    if thumbnails:
        paths.append(folder / CONTACT_SHEET)
        write_image(paths[-1], contact_sheet(thumbnails, columns=2, cell_width=SHEET_CELL_WIDTH))
    return paths


def evenly_spaced(entries: Sequence[Entry], count: int) -> list[Entry]:
    """`count` entries of a sequence, from its whole length and always the same; all where there are no more."""
    if count >= len(entries):
        return list(entries)
    return [entries[index * len(entries) // count] for index in range(count)]


def write_image(path: str | os.PathLike, image: np.ndarray) -> None:
    """Write a BGR image in the format of the path's suffix, whole or not at all."""
    path = Path(path)
    content = cv2.imencode(path.suffix, image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()
    if path.suffix == ".jpg":
        first = 4 + int.from_bytes(content[4:6], "big")  # JFIF's own segment is to stay the first
        content = content[:first] + _COMMENT + content[first:]
    with atomic_writer(path) as stream:
        stream.write(content)


def is_written_here(path: Path) -> bool:
    """Whether a JPEG is one that `write_image` wrote."""
    with path.open("rb") as stream:
        return _COMMENT in stream.read(64)


_MADE_BY = b"drawn by xray-lazy"
_COMMENT = b"\xff\xfe" + (2 + len(_MADE_BY)).to_bytes(2, "big") + _MADE_BY
