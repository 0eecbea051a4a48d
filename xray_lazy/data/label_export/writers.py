"""The formats that labels are written in."""

import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from xray_lazy.data.label_export.cvat_writer import write_cvat
from xray_lazy.data.label_export.label_studio_writer import write_label_studio
from xray_lazy.data.label_export.labelled_image import IMAGE_FOLDER, Labels
from xray_lazy.data.label_export.labelme_writer import write_labelme
from xray_lazy.data.label_export.voc_writer import write_voc
from xray_lazy.data.label_export.yolo_writer import write_boxes, write_segments


class Writer(NamedTuple):
    """How a format is written.

    Attributes:
        title: how people call it.
        write: gives the files, as path below the output and text.
        image_folder: where the images go, below the output.
        mark: a file that each export has.
        has_file_per_image: whether each image has a label file of its name.
        steps: what to do with it; {folder} is where it is.
    """

    title: str
    write: Callable[[Labels], Iterator[tuple[str, str]]]
    image_folder: str
    mark: str
    has_file_per_image: bool
    steps: str

    def next_step(self, folder: Path) -> str:
        """What to do with an export in this folder."""
        return self.steps.format(folder=shlex.quote(str(folder.resolve())))


LABEL_WRITERS: dict[str, Writer] = {
    "yolo": Writer(
        "YOLO boxes", write_boxes, IMAGE_FOLDER, "data.yaml", True, "yolo detect train data={folder}/data.yaml"
    ),
    "yolo_segment": Writer(
        "YOLO outlines", write_segments, IMAGE_FOLDER, "data.yaml", True, "yolo segment train data={folder}/data.yaml"
    ),
    "voc": Writer(
        "Pascal VOC",
        write_voc,
        "JPEGImages",
        "classes.txt",
        True,
        "labelImg {folder}/JPEGImages {folder}/classes.txt {folder}/Annotations",
    ),
    "labelme": Writer("labelme", write_labelme, "", "classes.txt", True, "labelme {folder}"),
    "cvat": Writer(
        "CVAT",
        write_cvat,
        IMAGE_FOLDER,
        "annotations.xml",
        False,
        "make a task of {folder}/images, and upload annotations.xml to it as CVAT 1.1",
    ),
    "label_studio": Writer(
        "Label Studio",
        write_label_studio,
        IMAGE_FOLDER,
        "tasks.json",
        False,
        "start Label Studio with LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true and "
        "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT={folder}, paste label_config.xml as the labelling interface, "
        "add images/ as local storage, and import tasks.json",
    ),
}
