"""What a COCO file says is in its images, found by the image's name, in the classes of a model."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from xray_lazy.data.coco_file import REQUIRED_LISTS, read_coco
from xray_lazy.data.image_detections import Drawn
from xray_lazy.errors import UserError
from xray_lazy.prediction.input_files import InputFile
from xray_lazy.utils.wording import tool_command


class GroundTruth:
    """Items by image, ready to draw.

    Args:
        json_file: COCO file; annotations that can't be drawn are left out.
        needed: its lists that have to be there; others count as empty.
        class_names: the model's, whose colours equal names share.

    Attributes:
        class_names: the model's, then those that only the file has.
        category_ids: the file's, by its classes' names.

    Raises:
        UserError: it is no COCO file.
    """

    def __init__(
        self, json_file: str | Path, class_names: Sequence[str], needed: Sequence[str] = REQUIRED_LISTS
    ) -> None:
        content = {name: [] for name in REQUIRED_LISTS} | read_coco(json_file, needed)
        try:
            categories = sorted(content["categories"], key=lambda entry: entry["id"])
            self.category_ids = {str(entry["name"]): entry["id"] for entry in categories}
            images = {entry["id"]: PurePosixPath(entry["file_name"]) for entry in content["images"]}
        except (KeyError, TypeError) as error:
            raise UserError(
                f"{json_file} has an entry that COCO does not allow: {error!r} is missing",
                tool_command("dataset", "check", json_file, "FOLDER"),
            ) from None
        own = [name for name in self.category_ids if name not in class_names]
        self.class_names = (*class_names, *own)
        index = {number: self.class_names.index(name) for name, number in self.category_ids.items()}
        self._items: dict[int | str, list[Drawn]] = {number: [] for number in images}
        for annotation in content["annotations"]:
            drawn = _drawn(annotation, index)
            if drawn is not None:
                self._items.get(annotation.get("image_id"), []).append(drawn)
        self._id_by_name = {name: number for number, name in images.items()}
        times = Counter(name.name for name in images.values())
        self._id_by_last_name = {name.name: number for number, name in images.items() if times[name.name] == 1}

    def image_id(self, image: InputFile) -> int | str | None:
        """The file's id of an image: by its name below the folder, else by its last part where only one has that."""
        return self._id_by_name.get(image.name, self._id_by_last_name.get(image.path.name))

    def items(self, image: InputFile) -> list[Drawn] | None:
        """What is in an image; None where the file does not know it."""
        return self._items.get(self.image_id(image))


def _drawn(annotation: dict, index: dict[int, int]) -> Drawn | None:
    """An annotation to draw; None where it has no box of four numbers or no declared class."""
    try:
        x, y, width, height = (float(value) for value in annotation["bbox"])
        class_id = index[annotation["category_id"]]
    except (KeyError, TypeError, ValueError):
        return None
    mask = annotation.get("segmentation") or None
    return Drawn(class_id, (x, y, x + width, y + height), mask=mask, is_crowd=bool(annotation.get("iscrowd")))
