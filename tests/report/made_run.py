"""Output folders as trainings leave them, without the training: real config, record, log and evaluations."""

import json
from pathlib import Path

import numpy as np
import torch
from detectron2.structures import Boxes, Instances

from tests.data.coco_sets import write_set
from xray_lazy.config import load_config, save_config
from xray_lazy.data.datasets import load_datasets
from xray_lazy.evaluation.coco_evaluator import CocoEvaluator
from xray_lazy.tracking.run_record import RunRecord

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "tests" / "engine" / "tiny.py"
COMMAND = ["tools/lazy_train.py", "--config-file", str(CONFIG)]
PERIOD = 10
CLASSES = ("<b>gun", "knife & fork")


def make_set(folder, classes=CLASSES, images=12, **options):
    """A set on the disk; `tests/engine/tiny.py` finds it by $TINY_SET."""
    write_set(Path(folder), count=images, classes=classes, **options)
    return folder


def make_run(folder, monkeypatch, overrides=(), evaluations=(0.3, 0.7), iterations=40, finished=True, planned=40):
    """A run whose evaluations find each item with these chances.

    $TINY_SET names its data; the first evaluation is after half of the iterations.
    """
    overrides = [f"train.output_dir={folder}", f"train.max_iter={planned}", *overrides]
    monkeypatch.setattr("sys.argv", [*COMMAND, *overrides])
    cfg = load_config(CONFIG, overrides)
    folder = Path(folder)
    folder.mkdir(parents=True)
    save_config(cfg, folder / "config.yaml")
    RunRecord.collect(cfg, overrides).write(folder / "run.json")
    lines = [logged(iteration) for iteration in range(PERIOD - 1, iterations, PERIOD)]
    for number, chance in enumerate(evaluations):
        place = (number + 1) * len(lines) // len(evaluations) - 1
        lines[place] |= evaluate(folder, cfg, lines[place]["iteration"], chance)
    (folder / "metrics.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "log.txt").write_text(
        "[01/02 03:04:05] xray_lazy.engine.experiment INFO: GeneralizedRCNN: 1.2 M parameters\n"
    )
    if finished:
        (folder / "model_final.pth").touch()
    return folder


def logged(iteration):
    decay = float(np.exp(-iteration / 20))
    losses = {"total_loss": 1 + decay, "loss_cls": 0.6 * decay + 0.2, "loss_mask": 0.4 * decay + 0.8}
    return {
        "iteration": iteration,
        **losses,
        "lr": 0.01 * decay,
        "time": 0.5,
        "data_time": 0.2,
        "images_per_second": 8.0,
    }


def evaluate(folder, cfg, iteration, chance):
    """Evaluate detections that are right with this chance, else beside the item; returns the metrics."""
    dataset = load_datasets(cfg.dataloader.test.dataset.names)
    evaluator, random = CocoEvaluator(dataset), np.random.default_rng(iteration)
    for record in dataset:
        found = Instances((record["height"], record["width"]))
        boxes, classes = [], []
        for annotation in record["annotations"]:
            x, y, w, h = annotation["bbox"]
            shift = 0 if random.random() < chance else 12
            boxes.append([x + shift, y, x + w + shift, y + h])
            classes.append(annotation["category_id"])
        found.pred_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
        found.scores = torch.from_numpy(random.uniform(0.5, 1, len(boxes)))
        found.pred_classes = torch.tensor(classes, dtype=torch.int64)
        masks = torch.zeros(len(boxes), record["height"], record["width"], dtype=torch.bool)
        for mask, (x0, y0, x1, y1) in zip(masks, boxes, strict=True):
            mask[int(y0) : int(y1), int(x0) : int(x1)] = True
        found.pred_masks = masks
        evaluator.process([record], [{"instances": found}])
    results = evaluator.evaluate()
    evaluator.save(folder / "evaluation" / dataset.name / f"iter_{iteration}")
    named = {f"{task}/{name}": value for task, values in results.items() for name, value in values.items()}
    return {name: value if value == value else None for name, value in named.items()}
