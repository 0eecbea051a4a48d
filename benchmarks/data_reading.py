"""Our mapper beside detectron2's DatasetMapper: 1920x1080 JPEG with masks to a training sample."""

from pathlib import Path

import torch
from detectron2.config import instantiate
from detectron2.data import DatasetMapper

from benchmarks.pairs import Comparison, compare
from xray_lazy.config import get_config
from xray_lazy.data.datasets import load_datasets
from xray_lazy.data.synthetic.generate import generate_set

PICTURES = 12


def compare_all(folder: Path) -> list[Comparison]:
    generate_set(folder / "astrophysics", "astrophysics", {"train": PICTURES, "val": 0, "test": 0})
    dataset = load_datasets("xray_astrophysics_train", str(folder / "astrophysics"))
    cfg = get_config("xray/mask_rcnn_r50.py")
    augmentations = [instantiate(node) for node in cfg.dataloader.train.mapper.augmentations]
    ours = instantiate(cfg.dataloader.train.mapper)
    theirs = DatasetMapper(
        is_train=True,
        augmentations=augmentations,
        image_format="BGR",
        use_instance_mask=True,
        instance_mask_format="bitmask",
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in a loader's worker
    try:
        result = compare(
            "read, resize and flip 1920x1080 with masks (detectron2 DatasetMapper)",
            "picture",
            lambda: [ours(record) for record in dataset],
            lambda: [theirs(record) for record in dataset],
            units=PICTURES,
        )
    finally:
        torch.set_num_threads(threads)
    return [result]
