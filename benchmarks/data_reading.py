"""Our mapper beside its peers: a 1920x1080 JPEG with masks to a training sample, on one thread as in a loader's worker.

Peers: detectron2's DatasetMapper, torchvision's v2 transforms, and mayaku's mapper where mayaku is installed.
"""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from detectron2.config import instantiate
from detectron2.data import DatasetMapper
from pycocotools import mask as mask_util

from benchmarks.pairs import Comparison, compare
from xray_lazy.config import get_config
from xray_lazy.data.datasets import DetectionDataset, load_datasets
from xray_lazy.data.mapper import DetectionMapper
from xray_lazy.data.picture_cache import PictureCache
from xray_lazy.data.synthetic.generate import generate_set

IMAGES = 12
EDGES, LONGEST = [640, 672, 704, 736, 768, 800], 1333
WORK = "read, resize and flip 1920x1080 with masks"


def loader_mapper(config: str) -> DetectionMapper:
    """That of a config's training images, for a model that reads BGR."""
    node = get_config(config).dataloader.train.mapper
    node.image_format = "BGR"
    return instantiate(node)


def compare_all(folder: Path) -> list[Comparison]:
    generate_set(folder / "astrophysics", "astrophysics", {"train": IMAGES, "val": 0, "test": 0})
    masks = load_datasets("xray_astrophysics_train", str(folder / "astrophysics"))
    polygons = with_polygons(masks)
    ours = loader_mapper("common/data/xray.py")
    cached = DetectionMapper(ours.augmentations.augs, cache=PictureCache(str(folder / "cache")))
    theirs = DatasetMapper(
        is_train=True,
        augmentations=ours.augmentations.augs,
        image_format="BGR",
        use_instance_mask=True,
        instance_mask_format="bitmask",
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        results = [
            _compare(f"{WORK} as RLE (detectron2)", ours, theirs, masks),
            _compare(f"{WORK} as polygons (detectron2)", ours, theirs, polygons),
            _compare(f"{WORK} as RLE (torchvision v2)", ours, torchvision_mapper(), masks),
            _compare(f"{WORK} as RLE, second epoch of the cache (detectron2)", cached, theirs, masks),
            _compare(f"{WORK} as RLE, second epoch of the cache (our mapper without it)", cached, ours, masks),
        ]
        if mayaku := mayaku_mapper():
            results.insert(3, _compare(f"{WORK} as RLE (mayaku)", ours, mayaku, masks))
    finally:
        torch.set_num_threads(threads)
        cv2.setNumThreads(-1)
    return results


def with_polygons(dataset: DetectionDataset) -> list[dict]:
    """The same instances with their outlines, of about one pixel's accuracy, for masks."""

    def outlines(mask: dict) -> list[list[float]]:
        contours, _ = cv2.findContours(mask_util.decode(mask), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        simple = [cv2.approxPolyDP(contour, 1.0, closed=True) for contour in contours]
        return [corners.ravel().astype(float).tolist() for corners in simple if len(corners) >= 3]

    return [
        record | {"annotations": [a | {"segmentation": outlines(a["segmentation"])} for a in record["annotations"]]}
        for record in dataset
    ]


def torchvision_mapper() -> Callable[[dict], tuple]:
    """The same work as torchvision's detection training does it: masks of the whole image, transformed with it."""
    from torchvision import io, tv_tensors
    from torchvision.transforms import v2

    transforms = v2.Compose(
        [v2.RandomShortestSize(EDGES, LONGEST), v2.RandomHorizontalFlip(), v2.SanitizeBoundingBoxes()]
    )

    def read(record: dict) -> tuple:
        annotations, size = record["annotations"], (record["height"], record["width"])
        boxes = torch.tensor([a["bbox"] for a in annotations]).reshape(-1, 4)
        masks = [mask_util.decode(a["segmentation"]) for a in annotations]
        target = {
            "boxes": tv_tensors.BoundingBoxes(boxes, format="XYWH", canvas_size=size),
            "masks": tv_tensors.Mask(torch.from_numpy(np.array(masks, np.uint8).reshape(-1, *size))),
            "labels": torch.tensor([a["category_id"] for a in annotations]),
        }
        return transforms(tv_tensors.Image(io.decode_image(record["file_name"], mode="RGB")), target)

    return read


def mayaku_mapper() -> Callable[[dict], dict] | None:
    """None where it isn't installed. Its images are float32 RGB, as its models take them."""
    try:
        from mayaku.data.mapper import DatasetMapper as MayakuMapper
        from mayaku.data.transforms import RandomFlip, ResizeShortestEdge
    except ImportError:
        return None
    return MayakuMapper([ResizeShortestEdge(EDGES, LONGEST), RandomFlip()], mask_format="bitmask")


def _compare(name: str, ours: Callable[[dict], dict], theirs: Callable[[dict], object], records: list) -> Comparison:
    def read(mapper: Callable) -> None:
        np.random.seed(0)  # of detectron2's augmentations and ours: the same sizes and flips on both sides
        for record in records:
            sample = mapper(record)
            # an image that is memory-mapped has not been read before somebody looks at it
            (sample["image"] if isinstance(sample, dict) else sample[0]).clone()

    return compare(name, "image", lambda: read(ours), lambda: read(theirs), units=len(records))
