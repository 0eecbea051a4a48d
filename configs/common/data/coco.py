"""COCO 2017, under `dataloader.root` as its authors lay it out: annotations/, train2017/, val2017/."""

from .xray import dataloader

dataloader.root = "datasets/coco"
for loader, split in ((dataloader.train, "train2017"), (dataloader.test, "val2017")):
    loader.dataset.names = {
        "name": f"coco_{split}",
        "json_file": "${dataloader.root}/annotations/instances_" + split + ".json",
        "image_root": "${dataloader.root}/" + split,
    }
dataloader.train.dataset.filter_empty = True
