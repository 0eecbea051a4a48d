"""What an exported model loses of the average precision that the model has in PyTorch."""

from collections.abc import Sequence
from contextlib import suppress

import torch
from detectron2.structures import Boxes, Instances
from omegaconf import OmegaConf
from torch import nn

from xray_lazy.engine.evaluated_sets import EvaluatedSet, evaluated_sets
from xray_lazy.engine.output_folder.earlier_run import check_classes_of_model
from xray_lazy.engine.processes.step_limit import step_in_time
from xray_lazy.engine.trained_model import TrainedModel
from xray_lazy.errors import UserError
from xray_lazy.evaluation.encoded_inference import postprocess
from xray_lazy.evaluation.inference import run_inference
from xray_lazy.export.runtime import ExportedModel


class ExportedModule(nn.Module):
    """An exported model as evaluation takes one: from dataset dicts to instances in the pixels of their files."""

    def __init__(self, exported: ExportedModel) -> None:
        super().__init__()
        self._exported = exported

    def forward(self, batch: Sequence[dict]) -> list[dict]:
        images = [sample["image"] for sample in batch]
        found = find_instances(self._exported, images)
        return [{"instances": postprocess(one, sample)} for one, sample in zip(found, batch, strict=True)]


def find_instances(exported: ExportedModel, images: Sequence[torch.Tensor]) -> list[Instances]:
    """Detections in pixels of the images `(channels, H, W)`, with masks `(N, 1, M, M)` inside of their boxes."""
    results = []
    for image, found in zip(images, exported.detect(images), strict=True):
        values = {name: torch.tensor(array) for name, array in found.items()}
        items = Instances(tuple(image.shape[1:]), pred_boxes=Boxes(values["boxes"]))
        items.scores, items.pred_classes = values["scores"], values["classes"]
        if "masks" in values:
            items.pred_masks = values["masks"][:, None]
        results.append(items)
    return results


def sets_at_hand(trained: TrainedModel) -> list[EvaluatedSet]:
    """The test sets of a model's config; none where the data has stayed where the model was trained.

    Raises:
        UserError: a set has other classes than the model, or in another order.
    """
    cfg = trained.cfg
    if OmegaConf.select(cfg, "dataloader.test.dataset") is None or cfg.dataloader.get("evaluator") is None:
        return []
    sets: list[EvaluatedSet] = []
    with suppress(UserError):
        sets = [one for one in evaluated_sets(cfg.dataloader) if len(one.dataset) and one.has_items]
    for one in sets:
        check_classes_of_model(one.dataset, trained.class_names, trained.weights)
    return sets


def average_precision(model: nn.Module, sets: Sequence[EvaluatedSet]) -> dict[str, float]:
    """AP in percent by task, such as `bbox` and `segm`, of several sets their mean."""
    found: dict[str, list[float]] = {}
    for one in sets:
        for task, metrics in run_inference(model, one.loader, one.evaluators, in_time=step_in_time).items():
            if "AP" in metrics:
                found.setdefault(task, []).append(metrics["AP"])
    return {task: sum(values) / len(values) for task, values in found.items()}


def largest_loss(of_pytorch: dict[str, float], of_exported: dict[str, float]) -> float:
    """By how much AP is lower, in the task where it is most; 0 where it is nowhere."""
    return max((ap - of_exported.get(task, 0.0) for task, ap in of_pytorch.items()), default=0.0)
