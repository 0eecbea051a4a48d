"""A run's best evaluation with its data set at hand: what error charts and pictures are made of."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from xray_lazy.analysis.detections import analyze
from xray_lazy.analysis.inputs import Inputs, inputs_of_run
from xray_lazy.analysis.results import Analysis
from xray_lazy.data.datasets import DetectionDataset
from xray_lazy.errors import UserError
from xray_lazy.evaluation.coco_metrics import Metrics
from xray_lazy.evaluation.matching import ImageMistakes
from xray_lazy.report.outcome import best_evaluation
from xray_lazy.report.run_files import EvaluationFiles, RunFiles


@dataclass
class Review:
    """Detections and ground truth of one evaluation; it is what `PictureMaker` takes."""

    evaluation: EvaluationFiles
    dataset: DetectionDataset
    inputs: Inputs

    @property
    def ground_truth(self) -> dict[str, Any]:
        return self.inputs.ground_truth

    @property
    def predictions(self) -> list[dict]:
        return self.inputs.detections

    @property
    def metrics(self) -> Mapping[str, Metrics]:
        """None: they are read from the evaluation's files."""
        return {}

    @cached_property
    def analysis(self) -> Analysis:
        return analyze(self.inputs)

    @property
    def score_threshold(self) -> float:
        """From which on detections are shown and counted: that of the highest F1."""
        return self.analysis.main.score_threshold

    @cached_property
    def mistakes(self) -> list[ImageMistakes]:
        """Of all images, the worst first."""
        task = "segm" if "segm" in self.analysis.tasks else "bbox"
        return self.inputs.matches(task).mistakes(self.score_threshold)


def review_of(run: RunFiles) -> Review:
    """The best evaluation with the ground truth that it was made on.

    Raises:
        UserError: there is no evaluation, or its data set is not there or another one; the message tells which.
    """
    evaluation = best_evaluation(run)
    if evaluation is None:
        raise UserError(
            "there is no evaluation whose detections were kept", "let training come to its first evaluation"
        )
    dataset = load_dataset(run, "test")
    if evaluation.dataset != dataset.name:
        raise UserError(f"the evaluation is of {evaluation.dataset}, the config's test set is {dataset.name}")
    name = f"{evaluation.dataset}/{evaluation.folder.name}"
    return Review(evaluation, dataset, inputs_of_run(run.folder, name))


def load_dataset(run: RunFiles, part: str) -> DetectionDataset:
    """The data set of the config's `dataloader.<part>`.

    Raises:
        UserError: the config does not tell it, or it is not on this machine.
    """
    from detectron2.config import instantiate
    from omegaconf import OmegaConf

    node = None if run.config is None else OmegaConf.select(run.config, f"dataloader.{part}.dataset")
    if node is None:
        raise UserError(f"the config names no data set dataloader.{part}.dataset")
    dataset = instantiate(node)
    if not isinstance(dataset, DetectionDataset):
        raise UserError(f"dataloader.{part}.dataset gives a {type(dataset).__name__}, not a DetectionDataset")
    return dataset
