"""Evaluation beside detectron2's: from a network's raw outputs to COCO results and figures, and how both grow."""

import argparse
import contextlib
import io
import json
import logging
import pickle
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from detectron2.evaluation.coco_evaluation import instances_to_coco_json
from detectron2.modeling import detector_postprocess
from detectron2.structures import Boxes, BoxMode, Instances
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch.nn import functional as F

from benchmarks.pairs import Comparison, compare, report
from xray_lazy.data.datasets import DetectionDataset
from xray_lazy.data.image_detections import ImageDetections
from xray_lazy.evaluation.coco_evaluator import CocoEvaluator
from xray_lazy.evaluation.coco_metrics import Metrics
from xray_lazy.evaluation.detections import CocoResults
from xray_lazy.evaluation.encoded_inference import postprocess
from xray_lazy.evaluation.ground_truth import GroundTruth

HEIGHT, WIDTH = 1080, 1920
INPUT_SIZE = (750, 1333)  # of the network
MASK_SIDE = 28
ITEMS = 8  # in an image
CLASSES = 13
FIGURES = ("AP", "AP50", "AP75", "APs", "APm", "APl")


def compare_all(_folder: Path | None = None, device: str = "cpu") -> list[Comparison]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # both sides; detectron2 pastes mask by mask
    try:
        return [compare_results(device), *compare_figures(), compare_whole(device)]
    finally:
        torch.set_num_threads(threads)


def compare_results(device: str, images: int = 2, detections: int = 100) -> Comparison:
    """From the heads' outputs to COCO results."""
    dataset = made_up_set(images)
    raw = [raw_detections(record, detections, device) for record in dataset]

    pairs = list(zip(dataset, raw, strict=True))

    def ours() -> list[dict]:
        found = {r["image_id"]: ImageDetections.of(postprocess(fresh(one), r)) for r, one in pairs}
        return list(CocoResults(found, dataset.category_ids))

    def theirs() -> list[dict]:
        return results_of_detectron2(dataset, raw)

    for found, plain in zip(ours(), theirs(), strict=True):
        if found["segmentation"] != plain["segmentation"] or not np.allclose(found["bbox"], plain["bbox"]):
            raise AssertionError("the two sides find different masks")
    name = f"COCO results of {detections} raw masks, {WIDTH}x{HEIGHT} (detectron2 postprocess and JSON)"
    return compare(name, "image", ours, theirs, units=images, pairs=5)


def compare_figures(images: int = 50, detections: int = 100) -> list[Comparison]:
    """From compact detections, and from COCO results, to the figures; the ground truth has been read."""
    dataset = made_up_set(images)
    evaluator = processed(CocoEvaluator(dataset), dataset, detections, "cpu")
    evaluator.evaluate()
    found = evaluator._images
    truth, results = coco(evaluator.ground_truth), list(evaluator.predictions)
    comparisons = []
    for kind in ("bbox", "segm"):
        known = evaluator._truths[kind]

        def ours(known: GroundTruth = known) -> Metrics:
            return known.metrics([known.match(found, dataset.category_ids)])

        figures = ours().summary
        plain = figures_of_pycocotools(truth, results, kind)
        if any(abs(figures[name] - value) > 1e-9 for name, value in zip(FIGURES, plain, strict=True)):
            raise AssertionError(f"{kind}: {figures} beside {plain}")
        comparisons.append(
            compare(
                f"{kind} AP of {images} images x {detections} detections (pycocotools)",
                "image",
                ours,
                lambda kind=kind: figures_of_pycocotools(truth, results, kind),
                units=images,
                pairs=3,
            )
        )
    return comparisons


def compare_whole(device: str, images: int = 8, detections: int = 100) -> Comparison:
    """From the heads' outputs to box and mask AP, the second evaluation of a run."""
    dataset = made_up_set(images)
    raw = [raw_detections(record, detections, device) for record in dataset]
    evaluator = CocoEvaluator(dataset)
    truth = coco(evaluator.ground_truth)

    def ours() -> None:
        evaluator.reset()
        for record, one in zip(dataset, raw, strict=True):
            evaluator.process([record], [{"instances": postprocess(fresh(one), record)}])
        evaluator.evaluate()

    def theirs() -> None:
        results = results_of_detectron2(dataset, raw)
        for kind in ("bbox", "segm"):
            figures_of_pycocotools(truth, results, kind)

    name = f"raw masks to box and mask AP, {detections} an image (detectron2 and pycocotools)"
    return compare(name, "image", ours, theirs, units=images, pairs=3)


def growth() -> list[dict]:
    """Processor time in ms and bytes of one image, for more images, classes and instances; one thread."""
    cases = [{"images": count, "detections": 20} for count in (50, 100, 200, 400)]
    cases += [{"images": 50, "detections": 20, "classes": count} for count in (13, 100, 1000)]
    cases += [{"images": 20, "detections": count} for count in (1, 10, 100, 300)]
    return [_cost(**{"classes": CLASSES} | case) for case in cases]


def _cost(images: int, detections: int, classes: int) -> dict:
    dataset = made_up_set(images, classes)
    evaluator = CocoEvaluator(dataset, max_detections=max(100, detections))
    evaluator.evaluate()  # reads the ground truth
    raw = [raw_detections(record, detections, "cpu", classes) for record in dataset]
    seconds = {}

    def timed(name: str, call: Callable[[], object]) -> None:
        start = time.process_time()
        call()
        seconds[name] = time.process_time() - start

    pairs = list(zip(dataset, raw, strict=True))
    outputs: list[dict] = []
    timed("encode", lambda: outputs.extend({"instances": postprocess(fresh(one), record)} for record, one in pairs))
    timed("collect", lambda: evaluator.process(dataset, outputs))
    timed("figures", evaluator.evaluate)
    sent = len(pickle.dumps(list(evaluator._images.values())))
    cost = {name: round(1e3 * value / images, 2) for name, value in seconds.items()}
    return {"images": images, "classes": classes, "detections": detections} | cost | {"bytes": sent // images}


def results_of_detectron2(dataset: DetectionDataset, raw: Sequence[Instances]) -> list[dict]:
    results = []
    for record, one in zip(dataset, raw, strict=True):
        instances = detector_postprocess(fresh(one), HEIGHT, WIDTH).to("cpu")
        results += instances_to_coco_json(instances, record["image_id"])
    for result in results:
        result["category_id"] = dataset.category_ids[result["category_id"]]
    return results


def figures_of_pycocotools(truth: COCO, results: list[dict], kind: str) -> list[float]:
    """AP, AP50, AP75, APs, APm, APl in percent; detectron2 takes the boxes out for masks, too."""
    shown = [{k: v for k, v in result.items() if kind == "bbox" or k != "bbox"} for result in results]
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(truth, truth.loadRes(shown), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [100 * value for value in evaluation.stats[:6]]


def coco(ground_truth: dict) -> COCO:
    truth = COCO()
    with contextlib.redirect_stdout(io.StringIO()):
        truth.dataset = ground_truth
        truth.createIndex()
    for annotation in truth.dataset["annotations"]:
        annotation.setdefault("area", annotation["bbox"][2] * annotation["bbox"][3])
    return truth


def processed(evaluator: CocoEvaluator, dataset: DetectionDataset, detections: int, device: str) -> CocoEvaluator:
    for record in dataset:
        raw = raw_detections(record, detections, device)
        evaluator.process([record], [{"instances": postprocess(raw, record)}])
    return evaluator


def made_up_set(images: int, classes: int = CLASSES) -> DetectionDataset:
    """Images with 8 items each, as polygons of 24 points."""
    random = np.random.default_rng(0)
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    records = []
    for number in range(1, images + 1):
        annotations = []
        for _ in range(ITEMS):
            side = random.uniform(40, 300, 2)
            corner = random.uniform(0, (WIDTH, HEIGHT) - side)
            around = np.column_stack([np.cos(angles), np.sin(angles)]) * random.uniform(0.7, 1, (24, 1))
            polygon = corner + side / 2 * (1 + around)
            annotations.append(
                {"bbox": [*corner.tolist(), *side.tolist()], "bbox_mode": BoxMode.XYWH_ABS, "iscrowd": 0,
                 "category_id": int(random.integers(classes)), "segmentation": [polygon.ravel().tolist()],
                 "area": float(side.prod() * 0.6)}
            )  # fmt: skip
        size = {"height": HEIGHT, "width": WIDTH}
        records.append({"file_name": f"{number}.jpg", "image_id": number, "annotations": annotations} | size)
    return DetectionDataset(
        records, "made_up", tuple(f"class {i}" for i in range(classes)), tuple(range(1, classes + 1))
    )


def raw_detections(record: dict, count: int, device: str, classes: int = CLASSES) -> Instances:
    """What a detector's heads would give: boxes around the items in pixels of its input, masks of blobs inside."""
    generator = torch.Generator().manual_seed(record["image_id"])
    items = [record["annotations"][number % ITEMS] for number in range(count)]
    boxes = torch.tensor([[x, y, x + w, y + h] for x, y, w, h in (item["bbox"] for item in items)])
    boxes = (boxes + torch.randn(count, 4, generator=generator) * 8) * (INPUT_SIZE[1] / WIDTH)
    grid = torch.linspace(-1, 1, MASK_SIDE)
    blob = 1 - grid[:, None].square() - grid.square()
    noise = F.interpolate(torch.randn(count, 1, 7, 7, generator=generator), size=MASK_SIDE, mode="bicubic")
    wrong = torch.rand(count, generator=generator) < 0.2
    classes_found = torch.tensor([item["category_id"] for item in items])
    return Instances(
        INPUT_SIZE,
        pred_boxes=Boxes(boxes),
        scores=torch.rand(count, generator=generator),
        pred_classes=torch.where(wrong, torch.randint(classes, (count,), generator=generator), classes_found),
        pred_masks=(6 * blob + noise + 1).sigmoid(),
    ).to(device)


def fresh(instances: Instances) -> Instances:
    """A copy: postprocessing moves the boxes that it is given."""
    return Instances(instances.image_size, **instances.get_fields() | {"pred_boxes": instances.pred_boxes.clone()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--growth", action="store_true", help="cost for more images, classes and instances")
    parser.add_argument("--output", type=Path, default=Path("output/benchmarks_evaluation.json"))
    options = parser.parse_args()
    if not options.growth:
        report(compare_all(device=options.device), options.output)
        return
    from tabulate import tabulate

    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    rows = growth()
    print(tabulate(rows, headers="keys"))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
