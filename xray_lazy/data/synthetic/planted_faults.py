"""The faults of real exports, planted on purpose, so that checking and repairing have something to find."""

import copy
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np

from xray_lazy.errors import UserError

# Each fault gets images and annotations of its own, so that none hides another.
_IMAGES_NEEDED = 12


class PlantedFault(NamedTuple):
    """What was broken, and where: file names or annotation ids."""

    kind: str
    where: str


def plant_faults(content: dict, folder: Path, rng: np.random.Generator) -> list[PlantedFault]:
    """Break a COCO file's content and some images in `folder`, in place.

    Raises:
        UserError: there are too few images with annotations to give each fault its own.
    """
    annotated = {annotation["image_id"] for annotation in content["annotations"]}
    images = [image for image in content["images"] if image["id"] in annotated]
    if len(images) < _IMAGES_NEEDED:
        raise UserError(
            f"the faults need {_IMAGES_NEEDED} images with items, and there are {len(images)}",
            "generate more images",
        )
    chosen = [images[index] for index in rng.permutation(len(images))[:_IMAGES_NEEDED]]
    of_image = {a["image_id"]: a for a in content["annotations"]}
    victims = iter([(image, of_image[image["id"]]) for image in chosen])
    planted = [
        *_break_images(content, folder, victims),
        *_break_annotations(content, victims),
        _spread_category_ids(content, rng),
    ]
    for image in content["images"]:
        image["width"] = image["height"] = 0
    return [PlantedFault("width and height 0", "all images"), *planted]


def _break_images(content: dict, folder: Path, victims) -> list[PlantedFault]:
    image, _ = next(victims)
    path = folder / image["file_name"]
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    faults = [PlantedFault("truncated image", image["file_name"])]

    image, _ = next(victims)
    (folder / image["file_name"]).unlink()
    faults.append(PlantedFault("missing image", image["file_name"]))

    image, _ = next(victims)
    original = Path(image["file_name"])
    twin = {
        **image,
        "id": max(i["id"] for i in content["images"]) + 1,
        "file_name": f"{original.stem}_copy{original.suffix}",
    }
    shutil.copyfile(folder / image["file_name"], folder / twin["file_name"])
    copies = [copy.deepcopy(a) for a in content["annotations"] if a["image_id"] == image["id"]]
    for annotation in copies:
        _append(content, {**annotation, "image_id": twin["id"]})
    content["images"].append(twin)
    faults.append(PlantedFault("duplicate image", f"{twin['file_name']} of {image['file_name']}"))
    return faults


def _break_annotations(content: dict, victims) -> list[PlantedFault]:
    faults = []

    def note(kind: str, annotation: dict) -> None:
        faults.append(PlantedFault(kind, f"annotation {annotation['id']}"))

    _, model = next(victims)
    left, top, width, height = model["bbox"]
    line = {**model, "segmentation": [[left, top, left + width, top + height]]}
    note("polygon of fewer than 3 points", _append(content, line))

    _, model = next(victims)
    unknown = max(image["id"] for image in content["images"]) + 1000
    note("annotation without image", _append(content, {**model, "image_id": unknown}))

    _, model = next(victims)
    undeclared = max(category["id"] for category in content["categories"]) + 50
    note("undeclared category", _append(content, {**model, "category_id": undeclared}))

    _, model = next(victims)
    corner = model["bbox"][:2]
    note("empty box", _append(content, {**model, "bbox": [*corner, 0.0, 0.0], "area": 0.0, "segmentation": []}))

    _, model = next(victims)
    model["bbox"] = [model["bbox"][0] + 5000.0, *model["bbox"][1:]]
    note("box outside the image", model)

    _, model = next(victims)
    model["area"] = model["area"] * 3 + 100
    note("area that is not the mask's", model)

    _, model = next(victims)
    content["annotations"].append(copy.deepcopy(model))
    note("duplicate annotation id", model)

    _, model = next(victims)
    del model["segmentation"]
    note("box without mask", model)
    return faults


def _spread_category_ids(content: dict, rng: np.random.Generator) -> PlantedFault:
    """Give the categories growing ids with gaps."""
    steps = rng.integers(2, 5, len(content["categories"])).cumsum()
    new = {category["id"]: int(step) for category, step in zip(content["categories"], steps, strict=True)}
    for category in content["categories"]:
        category["id"] = new[category["id"]]
    for annotation in content["annotations"]:
        annotation["category_id"] = new.get(annotation["category_id"], annotation["category_id"] * 10)
    return PlantedFault("category ids with gaps", ", ".join(str(value) for value in new.values()))


def _append(content: dict, annotation: dict) -> dict:
    """Add an annotation under a new id."""
    annotation = {**annotation, "id": max(a["id"] for a in content["annotations"]) + 1}
    content["annotations"].append(annotation)
    return annotation
