"""Evaluate a model on the config's test set and keep the results in the output folder."""

import logging
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import torch
from detectron2.config import instantiate
from detectron2.structures import Instances
from detectron2.utils import comm
from omegaconf import DictConfig
from torch import nn

from xray_lazy.data.datasets import DetectionDataset
from xray_lazy.evaluation.inference import evaluation_mode, run_inference
from xray_lazy.visualization.prediction_pictures import evenly_spaced

logger = logging.getLogger(__name__)


class EvaluationRun:
    """The test loader and evaluator of a config, built when they are first needed.

    Args:
        dataloader: the config's `dataloader` node, with `test` and `evaluator`.
        output_dir: results go to `<output_dir>/evaluation/<dataset>/iter_<n>/`.
    """

    def __init__(self, dataloader: DictConfig, output_dir: str):
        self._dataloader = dataloader
        self.output_dir = Path(output_dir)

    @cached_property
    def loader(self):
        return instantiate(self._dataloader.test)

    @cached_property
    def evaluator(self):
        return instantiate(self._dataloader.evaluator)

    def __call__(self, model: nn.Module, iteration: int) -> dict[str, dict[str, float]]:
        """Evaluate on all processes together; the first gets the metrics by task and writes them, others get {}."""
        results = run_inference(model, self.loader, self.evaluator)
        if comm.is_main_process():
            folder = self.output_dir / "evaluation" / self.dataset.name / f"iter_{iteration}"
            self.evaluator.save(folder)
            logger.info("results are in %s", folder)
        comm.synchronize()
        return results

    @property
    def dataset(self) -> DetectionDataset:
        """The test set."""
        return self.loader.dataset

    @torch.no_grad()
    def predict(self, model: nn.Module, count: int) -> Iterator[tuple[dict, Instances]]:
        """Records of up to `count` pictures, evenly spread over the test set, and the model's instances for them."""
        with evaluation_mode(model):
            for record in evenly_spaced(self.dataset, count):
                yield record, model([self.loader.mapper(record)])[0]["instances"].to("cpu")
