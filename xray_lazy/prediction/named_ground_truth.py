"""What a COCO file says is in its images, found by the image's name, in the classes of a model."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from xray_lazy.data.check.values import class_name, is_id
from xray_lazy.data.coco_file import REQUIRED_LISTS, read_coco
from xray_lazy.data.image_detections import Drawn
from xray_lazy.errors import UserError
from xray_lazy.prediction.input_files import InputFile, default_image_root
from xray_lazy.utils.wording import tool_command


class GroundTruth:
    """Items by image, ready to draw.

    Args:
        json_file: COCO file; annotations that can't be drawn are left out.
        needed: its lists that have to be there; others count as empty.
        image_root: the folder of its images, for messages; by default where they are looked for.
        class_names: the model's, whose colours equal names share.

    Attributes:
        class_names: the model's, then those that only the file has.
        category_ids: the file's, by its classes' names.

    Raises:
        UserError: it is no COCO file.
    """

    def __init__(
        self,
        json_file: str | Path,
        class_names: Sequence[str],
        needed: Sequence[str] = REQUIRED_LISTS,
        image_root: str | Path | None = None,
    ) -> None:
        content = {name: [] for name in REQUIRED_LISTS} | read_coco(json_file, needed)
        try:
            categories = sorted(content["categories"], key=lambda entry: entry["id"])
            self.category_ids = {_class_name(entry): entry["id"] for entry in categories}
            images = {_image_id(entry): PurePosixPath(entry["file_name"]) for entry in content["images"]}
        except (KeyError, TypeError, ValueError) as error:
            why = f"{type(error).__name__}: {error}"
            raise UserError(
                f"{json_file} has an entry that COCO does not allow ({why})",
                tool_command("dataset", "check", json_file, image_root or default_image_root(Path(json_file))),
            ) from None
        own = [name for name in self.category_ids if name not in class_names]
        self.class_names = (*class_names, *own)
        index = {number: self.class_names.index(name) for name, number in self.category_ids.items()}
        self._items: dict[int | str, list[Drawn]] = {number: [] for number in images}
        for annotation in content["annotations"]:
            drawn = _drawn(annotation, index)
            if drawn is not None and is_id(number := annotation.get("image_id")):
                self._items.get(number, []).append(drawn)
        self._id_by_name = {name: number for number, name in images.items()}
        times = Counter(name.name for name in images.values())
        self._id_by_last_name = {name.name: number for number, name in images.items() if times[name.name] == 1}

    def image_id(self, image: InputFile) -> int | str | None:
        """The file's id of an image: by its name below the folder, else by its last part where only one has that."""
        return self._id_by_name.get(image.name, self._id_by_last_name.get(image.path.name))

    def items(self, image: InputFile) -> list[Drawn] | None:
        """What is in an image; None where the file does not know it."""
        return self._items.get(self.image_id(image))


def _class_name(category: dict) -> str:
    if (name := class_name(category["name"])) is None:
        raise ValueError(f"class {category['id']} has no name")
    return name


def _image_id(image: dict) -> int | float | str:
    if not is_id(image["id"]):
        raise ValueError(f"an image has the id {image['id']!r}")
    return image["id"]


def _drawn(annotation: dict, index: dict[int, int]) -> Drawn | None:
    """An annotation to draw; None where it has no box of four numbers or no declared class."""
    try:
        x, y, width, height = (float(value) for value in annotation["bbox"])
        class_id = index[annotation["category_id"]]
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    mask = annotation.get("segmentation") or None
    return Drawn(class_id, (x, y, x + width, y + height), mask=mask, is_crowd=bool(annotation.get("iscrowd")))
