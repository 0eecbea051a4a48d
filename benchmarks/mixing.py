"""What mixing adds to the loader's step: projected items, patches of other bags, and the R50 configs' recipe, on one
thread as in a worker."""

from pathlib import Path

import cv2
import numpy as np
import torch

from benchmarks.data_reading import loader_mapper
from benchmarks.pairs import Comparison, compare
from xray_lazy.data.augmentation.background_mixing import BackgroundMixing
from xray_lazy.data.augmentation.mixing import Mixing, OtherRecords, Scene
from xray_lazy.data.augmentation.threat_cutting import cut_dataset
from xray_lazy.data.augmentation.threat_projection import ThreatProjection
from xray_lazy.data.datasets import load_datasets
from xray_lazy.data.image_reader import read_record
from xray_lazy.data.image_transforms import resize
from xray_lazy.data.mapper import DetectionMapper
from xray_lazy.data.synthetic.generate import generate_set

IMAGES, ITEMS = 12, 5
EDGE, LONGEST = 750, 1333


def compare_all(folder: Path) -> list[Comparison]:
    generate_set(folder / "mixing", "astrophysics", {"train": IMAGES, "val": 0, "test": 0})
    dataset = load_datasets("xray_astrophysics_train", str(folder / "mixing"))
    cut_dataset(dataset, folder / "threats", pixel_size=1.0)
    shares = {"empty": 1.0, "occupied": 1.0}
    projecting = ThreatProjection(str(folder / "threats"), (ITEMS, ITEMS), **shares, pixel_size=1920 / LONGEST)
    plain, recipe = (loader_mapper(f"common/data/{name}.py") for name in ("xray", "xray_recipe"))
    recipe.mix_from(dataset)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        small = [resize(read_record(record), EDGE, LONGEST) for record in dataset]
        others = OtherRecords(dataset, dataset.class_names, dataset.trained_boxes, lambda record: small[0])

        def step(mapper: DetectionMapper = plain) -> None:
            np.random.seed(0)
            for record in dataset:
                mapper(record)

        parts = [
            compare(
                f"{name} at {LONGEST}x{EDGE} (the loader's whole step on 1920x1080 without it)",
                "image",
                lambda part=part: _mix(part, small, others),
                step,
                units=IMAGES,
            )
            for name, part in (
                (f"project {ITEMS} items", projecting),
                ("mix 4 patches of another bag in", BackgroundMixing(1.0, patches=(4, 4))),
            )
        ]
        whole = "the loader's whole step on 1920x1080 with the R50 configs' recipe (with resize and flip alone)"
        return [*parts, compare(whole, "image", lambda: step(recipe), step, units=IMAGES)]
    finally:
        torch.set_num_threads(threads)
        cv2.setNumThreads(-1)


def _mix(part: Mixing, images: list[np.ndarray], others: OtherRecords) -> None:
    random, scene = np.random.default_rng(0), Scene(np.empty_like(images[0]), [])
    for image in images:
        np.copyto(scene.image, image)
        part(scene, random, others)
