"""Small COCO sets that tests write to disk."""

import json
from pathlib import Path

import cv2
import numpy as np


def write_set(folder: Path, count: int = 4, size=(64, 48), classes=("gun", "knife"), masks=True, **changes) -> dict:
    """Write `annotations.json` and `images/` with one instance per image, empty images at every fourth place.

    Returns the JSON's content; `changes` replace its top-level entries before it is written.
    """
    width, height = size
    (folder / "images").mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    entries, annotations = [], []
    for number in range(count):
        image = random.integers(200, 256, (height, width, 3), dtype=np.uint8)
        entries.append({"id": 10 + number, "file_name": f"bag_{number}.png", "width": width, "height": height})
        if number % 4 != 3:
            x, y, w, h = 5 + number % 7, 6, 20, 15
            image[y : y + h, x : x + w] = (200, 60, 20)
            annotation = {"id": 100 + number, "image_id": 10 + number, "category_id": 1 + 2 * (number % len(classes))}
            annotation |= {"bbox": [x, y, w, h], "area": w * h, "iscrowd": 0}
            if masks:
                annotation["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
            annotations.append(annotation)
        cv2.imwrite(str(folder / "images" / f"bag_{number}.png"), image)
    categories = [{"id": 1 + 2 * index, "name": name} for index, name in enumerate(classes)]
    content = {"images": entries, "annotations": annotations, "categories": categories} | changes
    (folder / "annotations.json").write_text(json.dumps(content))
    return content


def reference(folder: Path) -> dict:
    """The set as `load_datasets` takes it."""
    return {"json_file": str(folder / "annotations.json"), "image_root": str(folder / "images"), "name": folder.name}
