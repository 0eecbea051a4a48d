"""Generated scans for the benchmark: small, easy bags of three scanners that differ in colours, noise and sharpness.

`python -m benchmarks.accuracy.generated FOLDER` writes `images/` and COCO files: `annotations.json` of all three
scanners, and, of other bags of the third one, `annotated.json` and `empty.json` to train on by `--train`.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

from xray_lazy.data.synthetic.generate import generate_set
from xray_lazy.data.synthetic.profiles import PROFILES

CLASSES = ("gun", "knife", "scissors", "wrench", "battery")
SCANNERS = ("astrophysics", "rapiscan", "smith")
BAGS = 500
EMPTY = 0.4


def main() -> None:
    """Generate all of it; what is there is replaced."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy.generated", description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    add_small_scanners()
    (folder / "images").mkdir(parents=True, exist_ok=True)
    sets = [drawn(folder, digit, scanner, EMPTY) for digit, scanner in enumerate(SCANNERS, 1)]
    write(folder / "annotations.json", sets)
    # names begin with the scanner's digit; nothing of these is tested on
    for name, empty in (("annotated", EMPTY), ("empty", 1.0)):
        write(folder / f"{name}.json", [drawn(folder, len(SCANNERS), SCANNERS[-1], empty, name)])


def add_small_scanners() -> None:
    """Profiles with the small images and easy bags of the demo's, and the looks of the large scanners."""
    for scanner in SCANNERS:
        look = PROFILES[scanner]
        PROFILES[f"small_{scanner}"] = replace(
            PROFILES["demo"],
            dyes=look.dyes,
            air=look.air,
            photons=look.photons,
            electronic_noise=look.electronic_noise,
            line_noise=look.line_noise,
            blur=look.blur / 2,
            edge_enhancement=look.edge_enhancement,
            bag_angle=look.bag_angle,
        )


def drawn(folder: Path, digit: int, scanner: str, empty: float, group: str = "") -> dict:
    """The COCO document of a scanner's bags, whose images go to `images/`."""
    name = f"{digit}_{group or 'bags'}"
    path = generate_set(
        folder / "sets" / name,
        f"small_{scanner}",
        {"train": BAGS},
        CLASSES,
        seed=2 * digit + (group == "empty") + 100 * bool(group),
        workers=1,
        empty_share=empty,
    )["train"]
    document = json.loads(path.read_text())
    for image in document["images"]:
        source = path.parents[2] / "images" / f"small_{scanner}" / "train" / Path(image["file_name"]).name
        image["file_name"] = f"{name}_{source.name}"
        source.rename(folder / "images" / image["file_name"])
    return document


def write(path: Path, documents: list[dict]) -> None:
    """Write several documents of the same classes as one."""
    images, annotations = [], []
    for document in documents:
        first = len(images) + 1
        numbers = {image["id"]: first + place for place, image in enumerate(document["images"])}
        images += [{**image, "id": numbers[image["id"]]} for image in document["images"]]
        annotations += [
            {**annotation, "id": len(annotations) + place, "image_id": numbers[annotation["image_id"]]}
            for place, annotation in enumerate(document["annotations"], 1)
        ]
    path.write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": documents[0]["categories"]})
    )


if __name__ == "__main__":
    main()
