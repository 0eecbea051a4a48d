"""What is trained on and what is tested on: pairs of COCO sets, each under a name."""

import json
import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Split:
    """Two COCO files over one folder of images.

    Attributes:
        images: the folder.
        train, test: the files.
    """

    images: Path
    train: Path
    test: Path

    @property
    def class_names(self) -> list[str]:
        """In the order of the category ids."""
        categories = json.loads(self.train.read_text())["categories"]
        return [category["name"] for category in sorted(categories, key=lambda category: category["id"])]


def scanner_of(file_name: str) -> str:
    """Of a file of the real scans: the first digit of its name."""
    return Path(file_name).name[0]


def in_domain(images: list[dict], held_out: str = "5", share: float = 0.2) -> dict[str, set[int]]:
    """A fifth of the images of each scanner but `held_out` is for the test."""
    by_scanner = defaultdict(list)
    for image in images:
        by_scanner[scanner_of(image["file_name"])].append(image["id"])
    by_scanner.pop(held_out, None)
    split: dict[str, set[int]] = {"train": set(), "test": set()}
    for scanner, ids in sorted(by_scanner.items()):
        random.Random(f"0 {scanner}").shuffle(ids)
        count = round(len(ids) * share)
        split["test"] |= set(ids[:count])
        split["train"] |= set(ids[count:])
    return split


def new_scanner(images: list[dict], held_out: str = "5") -> dict[str, set[int]]:
    """All images of one scanner are for the test, those of the others for training."""
    split: dict[str, set[int]] = {"train": set(), "test": set()}
    for image in images:
        split["test" if scanner_of(image["file_name"]) == held_out else "train"].add(image["id"])
    return split


PROTOCOLS: dict[str, Callable[[list[dict]], dict[str, set[int]]]] = {
    "in_domain": in_domain,
    "new_scanner": new_scanner,
}


def make_split(annotations: Path, images: Path, protocol: str, folder: Path) -> Split:
    """Write both files of a protocol into `folder`, and say where they are."""
    document = json.loads(annotations.read_text())
    chosen = PROTOCOLS[protocol](document["images"])
    folder.mkdir(parents=True, exist_ok=True)
    # a class that only the tested scanner has can't be learned: it is left out of both
    learned = {a["category_id"] for a in document["annotations"] if a["image_id"] in chosen["train"]}
    paths = {}
    for part, ids in chosen.items():
        of_part = {
            "images": [image for image in document["images"] if image["id"] in ids],
            "annotations": [
                annotation
                for annotation in document["annotations"]
                if annotation["image_id"] in ids and annotation["category_id"] in learned
            ],
            "categories": [category for category in document["categories"] if category["id"] in learned],
        }
        paths[part] = folder / f"{part}.json"
        paths[part].write_text(json.dumps(of_part))
    return Split(images, paths["train"], paths["test"])
