"""Bags and items of which the transmission is known."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

# what an item of two materials lets through, in BGR
HANDLE, BLADE = (0.9, 0.6, 0.4), (0.8, 0.35, 0.2)


@pytest.fixture
def knives(tmp_path) -> Path:
    """A set of three bags: knives apart from each other with masks and without, a gun on a knife, an empty bag."""
    return write_bags(tmp_path / "bags")


def empty_bag(seed: int = 0, size: tuple[int, int] = (240, 320), white: int = 235) -> np.ndarray:
    """A bag of unevenly thick fabric with a margin of 20 pixels, (H, W, 3) float32."""
    image = np.full((*size, 3), white, np.float32)
    across = np.linspace(0.95, 0.7, size[1] - 40, dtype=np.float32)
    image[20:-20, 20:-20] *= across[None, :, None] ** np.array([1.6, 1.2, 0.8], np.float32)
    return image + np.random.default_rng(seed).normal(0, 0.7, image.shape).astype(np.float32)


def knife(size: tuple[int, int], middle: tuple[int, int], angle: float = 0) -> tuple[np.ndarray, np.ndarray]:
    """The transmission (H, W, 3) of a knife of 80x16 pixels at a place (x, y), and its mask (H, W)."""
    let_through = np.ones((*size, 3), np.float32)
    for x, y, length, width, shade in ((-22, 0, 36, 16, HANDLE), (18, 0, 44, 10, BLADE)):
        turn = np.deg2rad(angle)
        place = middle[0] + x * np.cos(turn) - y * np.sin(turn), middle[1] + x * np.sin(turn) + y * np.cos(turn)
        corners = cv2.boxPoints((place, (length, width), angle)).round().astype(np.int32)
        cv2.fillPoly(let_through, [corners], shade)
    return let_through, (let_through < 1).any(2)


def as_image(values: np.ndarray) -> np.ndarray:
    return values.clip(0, 255).round().astype(np.uint8)


def annotation(number: int, image: int, category: int, bits: np.ndarray, with_mask: bool = True) -> dict:
    rows, columns = np.flatnonzero(bits.any(1)), np.flatnonzero(bits.any(0))
    left, top = int(columns[0]), int(rows[0])
    box = [left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top]
    entry = {"id": number, "image_id": image, "category_id": category, "bbox": box, "iscrowd": 0}
    entry["area"] = int(bits.sum())
    if with_mask:
        contours, _ = cv2.findContours(bits.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        entry["segmentation"] = [contour.ravel().tolist() for contour in contours]
    return entry


def write_bags(folder: Path, with_masks: bool = True) -> Path:
    (folder / "images").mkdir(parents=True)
    size = 240, 320
    placed = [
        [((90, 70), 0, 1), ((220, 160), 30, 1)],
        [((90, 120), 0, 1), ((96, 120), 15, 2), ((240, 70), -45, 2)],
        [],
    ]
    images, annotations = [], []
    for number, items in enumerate(placed, start=1):
        image = empty_bag(number, size)
        for middle, angle, category in items:
            let_through, bits = knife(size, middle, angle)
            image *= let_through
            annotations.append(annotation(len(annotations) + 1, number, category, bits, with_masks))
        cv2.imwrite(str(folder / "images" / f"{number}.png"), as_image(image))
        images.append({"id": number, "file_name": f"{number}.png", "height": size[0], "width": size[1]})
    categories = [{"id": 1, "name": "knife"}, {"id": 2, "name": "gun"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "set.json").write_text(json.dumps(content))
    return folder
