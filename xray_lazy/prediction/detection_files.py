"""What was found, as files: COCO results, a COCO data set of them, a table, and a list by frame for videos."""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from detectron2.structures import Instances
from pycocotools import mask as mask_util

from xray_lazy.data.image_detections import ImageDetections
from xray_lazy.run_folder import PREDICTIONS
from xray_lazy.utils.atomic_file import write_json, write_text
from xray_lazy.utils.results_place import RECORD, record_written

RESULT_FILES = (PREDICTIONS, "annotations.json", "detections.csv")
TABLE_HEADER = ("picture", "frame", "image_id", "class", "score", "x", "y", "width", "height", "mask_area")


@dataclass(frozen=True)
class Found:
    """The detections of one image or frame.

    Attributes:
        name: of the image below what was given, or of the video.
        image_id: in the COCO files.
        height, width: of the image, pixels.
        detections: the best first.
        frame: of a video, from 0; None for images.
    """

    name: str
    image_id: int | str | None
    height: int
    width: int
    detections: ImageDetections
    frame: int | None = None

    @classmethod
    def of(cls, instances: Instances, name: str, image_id: int | str | None, frame: int | None = None) -> "Found":
        """From what a `Predictor` gives."""
        return cls(name, image_id, *instances.image_size, ImageDetections.of(instances), frame)

    def __len__(self) -> int:
        return len(self.detections)

    @property
    def classes(self) -> list[int]:
        return self.detections.classes.tolist()

    def results(self, category_ids: Sequence[int]) -> Iterator[dict]:
        """As COCO results, boxes rounded to what is worth reading; `category_ids` by class.

        Scores are whole: a rounded one may lie on the other side of a threshold.
        """
        for one in self.detections.drawn():
            left, top, right, bottom = one.box
            box = [round(value, 2) for value in (left, top, right - left, bottom - top)]
            result = {"image_id": self.image_id, "category_id": category_ids[one.class_id], "bbox": box}
            result["score"] = one.score
            yield result if one.mask is None else result | {"segmentation": one.mask}


@dataclass(frozen=True)
class Categories:
    """Names and COCO ids of classes by index; classes that nobody names are called by their number."""

    names: tuple[str, ...]
    ids: tuple[int, ...]

    @classmethod
    def of(cls, class_names: Sequence[str], highest: int, ids_by_name: Mapping[str, int]) -> "Categories":
        """For the model's `class_names` and for classes up to `highest`, by the ids of a COCO file where it has them.

        Others count on from its highest; without a file they count from 1, as COCO's do.
        """
        names = [*class_names, *(f"class {index}" for index in range(len(class_names), highest + 1))]
        following = max(ids_by_name.values(), default=0) + 1
        ids = []
        for name in names:
            ids.append(ids_by_name.get(name, following))
            following += name not in ids_by_name
        return cls(tuple(names), tuple(ids))


def write_results(folder: Path, found: Sequence[Found], videos: Sequence[Found], categories: Categories) -> list[Path]:
    """Write what was found in images and in frames of videos; returns the files.

    `predictions.json`: COCO results of the images; `annotations.json`: the images, classes and results as a COCO
    data set; `detections.csv`: a line per item, of images and videos.
    """
    predictions, annotations, table = (folder / name for name in RESULT_FILES)
    written = []
    # the first one: by it the others are known for results that may be replaced, after a kill, too
    write_text(table, _table([*found, *videos], categories))
    if found:
        results = [result for image in found for result in image.results(categories.ids)]
        written = [predictions, annotations]
        write_json(written[0], results)
        (folder / RECORD).unlink(missing_ok=True)  # a kill between the two is not taken for a correction
        write_json(written[1], data_set(found, results, categories))
        record_written(folder, [annotations.name])
    return [*written, table]


def is_our_table(path: Path) -> bool:
    """Whether a file is a `detections.csv` that was written here."""
    return path.is_file() and path.read_bytes().startswith(",".join(TABLE_HEADER).encode())


def video_record(found: Sequence[Found], categories: Categories, facts: Mapping) -> dict:
    """The items of a video, frame by frame, under the facts of the video, among them `fps`."""
    frames = []
    for frame in found:
        items = []
        for class_id, result in zip(frame.classes, frame.results(categories.ids), strict=True):
            items.append({"class": categories.names[class_id], **{k: v for k, v in result.items() if k != "image_id"}})
        frames.append({"frame": frame.frame, "seconds": round(frame.frame / facts["fps"], 4), "detections": items})
    return {**facts, "frames": frames}


def data_set(found: Sequence[Found], results: Sequence[dict], categories: Categories) -> dict:
    """The images, classes and results as a COCO data set."""
    images = [{"id": p.image_id, "file_name": p.name, "width": p.width, "height": p.height} for p in found]
    annotations = []
    for number, result in enumerate(results, start=1):
        area = float(mask_util.area(result["segmentation"])) if "segmentation" in result else None
        box_area = result["bbox"][2] * result["bbox"][3]
        annotations.append({"id": number, **result, "area": box_area if area is None else area, "iscrowd": 0})
    classes = [{"id": number, "name": name} for number, name in zip(categories.ids, categories.names, strict=True)]
    return {"images": images, "annotations": annotations, "categories": classes}


def _table(found: Sequence[Found], categories: Categories) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(TABLE_HEADER)
    for image in found:
        for class_id, result in zip(image.classes, image.results(categories.ids), strict=True):
            area = int(mask_util.area(result["segmentation"])) if "segmentation" in result else ""
            about = (image.name, "" if image.frame is None else image.frame, _text(image.image_id))
            writer.writerow([*about, categories.names[class_id], result["score"], *result["bbox"], area])
    return stream.getvalue()


def _text(image_id: int | str | None) -> str:
    return "" if image_id is None else image_id if isinstance(image_id, str) else json.dumps(image_id)
