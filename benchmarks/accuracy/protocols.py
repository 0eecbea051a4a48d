"""What is trained on and what is tested on: images of known scanners, and those of one that training never saw."""

import json
import random
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Split:
    """COCO files over one folder of images.

    Attributes:
        images: the folder.
        train: what is trained on.
        tests: what is tested on, by the name of the protocol.
        test: all of the tests in one file.
    """

    images: Path
    train: Path
    tests: dict[str, Path]
    test: Path


def scanner_of(file_name: str) -> str:
    """Of a file of the real scans: the first digit of its name."""
    return Path(file_name).name[0]


def split_images(images: list[dict], held_out: str, share: float = 0.2) -> dict[str, set[int]]:
    """Image ids by part; one training serves both protocols.

    `in_domain` has a fifth of the images of each scanner but `held_out`, `new_scanner` all images of that one, and
    `train` the rest. A part without images is left out.
    """
    by_scanner = defaultdict(list)
    for image in images:
        by_scanner[scanner_of(image["file_name"])].append(image["id"])
    parts: dict[str, set[int]] = {"train": set(), "in_domain": set(), "new_scanner": set(by_scanner.pop(held_out, ()))}
    for scanner, ids in sorted(by_scanner.items()):
        random.Random(f"0 {scanner}").shuffle(ids)
        count = round(len(ids) * share)
        parts["in_domain"] |= set(ids[:count])
        parts["train"] |= set(ids[count:])
    return {part: ids for part, ids in parts.items() if ids}


def make_split(annotations: Path, images: Path, folder: Path, held_out: str = "5") -> Split:
    """Write the files of all parts into `folder`, and say where they are."""
    document = json.loads(annotations.read_text())
    parts = split_images(document["images"], held_out)
    parts["test"] = parts.get("in_domain", set()) | parts.get("new_scanner", set())
    folder.mkdir(parents=True, exist_ok=True)
    # a class that only the tested scanner has can't be learned: it is left out of all parts
    learned = {a["category_id"] for a in document["annotations"] if a["image_id"] in parts["train"]}
    paths = {}
    for part, ids in parts.items():
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
    train, test = paths.pop("train"), paths.pop("test")
    return Split(images, train, paths, test)
