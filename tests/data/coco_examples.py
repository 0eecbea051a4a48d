"""Small COCO sets for the tests of checks and repairs."""

import copy
from pathlib import Path

import cv2
import numpy as np

SIZE = (64, 48)  # width, height
SQUARE = [10, 10, 30, 10, 30, 30, 10, 30]


def instance(id: int, image_id: int = 1, category_id: int = 1, **changes) -> dict:
    """An annotation of a 20 x 20 square; a field given as `None` is left out."""
    fields = {
        "id": id,
        "image_id": image_id,
        "category_id": category_id,
        "bbox": [10, 10, 20, 20],
        "area": 400,
        "iscrowd": 0,
        "segmentation": [SQUARE],
    }
    return {key: copy.deepcopy(value) for key, value in {**fields, **changes}.items() if value is not None}


def sound_set() -> dict:
    """Three images, two classes, three instances, no fault."""
    width, height = SIZE
    return {
        "images": [{"id": i, "file_name": f"{i}.png", "width": width, "height": height} for i in (1, 2, 3)],
        "annotations": [instance(1), instance(2, 2, 2), instance(3, 3)],
        "categories": [{"id": 1, "name": "gun"}, {"id": 2, "name": "knife"}],
    }


def write_images(folder: Path, names=("1.png", "2.png", "3.png"), size=SIZE, seed: int = 0) -> Path:
    """Images of noise, each another."""
    folder.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed)
    for name in names:
        image = noise.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        assert cv2.imwrite(str(folder / name), image)
    return folder
