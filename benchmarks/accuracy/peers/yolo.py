"""Ultralytics YOLO, from its architecture file, without weights and with its own recipe."""

import json
import os
import shutil
import sys
from pathlib import Path

import torch
import yaml
from ultralytics import YOLO

sys.path.insert(0, str(Path(__file__).parents[1]))
from job import Job, timed


def main(job: Job) -> None:
    """Train as many epochs as fit into the budget, then detect in the test set."""
    torch.set_num_threads(1)
    folder = Path(job.folder).resolve()
    shared = {
        "data": str(write_yolo_set(job, folder / "data")),
        "imgsz": job.image_size,
        "batch": 16,
        "device": "cpu",
        "workers": 0,
        "seed": job.seed,
        "val": False,
        "plots": False,
        "amp": False,
        "project": str(folder),
        "exist_ok": True,
        "verbose": False,
        "pretrained": False,
    }
    epochs = int(job.of_another_seed("epochs") or 0)
    if not epochs:
        _, of_one = timed(lambda: YOLO(job.settings["model"]).train(**shared, epochs=1, name="trial"))
        shutil.rmtree(folder / "trial")
        epochs = max(1, round(job.seconds / of_one))
    _, seconds = timed(lambda: YOLO(job.settings["model"]).train(**shared, epochs=epochs, name="training"))
    model = YOLO(folder / "training" / "weights" / "last.pt")
    size = sum(parameter.numel() for parameter in model.model.parameters())
    job.finish(job.detect(detector(model, job.image_size)), seconds=seconds, epochs=epochs, parameters=size)


def write_yolo_set(job: Job, folder: Path) -> Path:
    """Labels, and links to the images, as Ultralytics reads them; returns the data file."""
    index_of = {category["id"]: index for index, category in enumerate(job.categories())}
    for part in ("train", "test"):
        document = json.loads(Path(getattr(job, part)).read_text())
        for kind in ("images", "labels"):
            (folder / kind / part).mkdir(parents=True, exist_ok=True)
        lines = {image["id"]: [] for image in document["images"]}
        sizes = {image["id"]: (image["width"], image["height"]) for image in document["images"]}
        for annotation in document["annotations"]:
            (x, y, w, h), (width, height) = annotation["bbox"], sizes[annotation["image_id"]]
            values = ((x + w / 2) / width, (y + h / 2) / height, w / width, h / height)
            numbers = " ".join(f"{value:.6f}" for value in values)
            lines[annotation["image_id"]].append(f"{index_of[annotation['category_id']]} {numbers}")
        for image in document["images"]:
            link = folder / "images" / part / image["file_name"]
            if not link.exists():
                os.symlink(Path(job.images).resolve() / image["file_name"], link)
            label = (folder / "labels" / part / image["file_name"]).with_suffix(".txt")
            label.write_text("\n".join(lines[image["id"]]))
    names = [category["name"] for category in job.categories()]
    data = folder / "data.yaml"
    data.write_text(
        yaml.safe_dump({"path": str(folder), "train": "images/train", "val": "images/test", "names": names})
    )
    return data


def detector(model: YOLO, image_size: int):
    """As `Job.detect` calls it."""
    settings = {"imgsz": image_size, "conf": 0.001, "max_det": 100, "device": "cpu", "verbose": False}

    def detect(path: Path) -> tuple[list, list, list]:
        boxes = model.predict(path, **settings)[0].boxes
        return boxes.xyxy.tolist(), boxes.conf.tolist(), boxes.cls.tolist()

    return detect


if __name__ == "__main__":
    main(Job.load(sys.argv[1]))
