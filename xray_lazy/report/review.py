"""A run's best evaluation with its data set at hand: what error charts and images are made of."""

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from xray_lazy.analysis.analyzing import analyze
from xray_lazy.analysis.inputs import APART, Inputs, inputs_of_run
from xray_lazy.analysis.results import Analysis, TaskResult
from xray_lazy.data.datasets import DetectionDataset, join_datasets
from xray_lazy.engine.evaluated_sets import nodes_of_sets
from xray_lazy.errors import UserError
from xray_lazy.evaluation.coco_metrics import Metrics
from xray_lazy.evaluation.matching import ImageMistakes
from xray_lazy.report.outcome import best_evaluation
from xray_lazy.report.run_files import RunFiles
from xray_lazy.run_folder import Evaluation

SAME_AP = 0.05

logger = logging.getLogger(__name__)


@dataclass
class Review:
    """Detections and ground truth of one evaluation; it is what `ImageMaker` takes."""

    evaluation: Evaluation
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
    return Review(evaluation, dataset, inputs_of_run(run.folder, evaluation.name))


def load_dataset(run: RunFiles, part: str) -> DetectionDataset:
    """The data set of the config's `dataloader.<part>`; test sets that are evaluated apart as one.

    Raises:
        UserError: the config does not tell it, or it is not on this machine.
    """
    from detectron2.config import instantiate
    from omegaconf import OmegaConf

    node = None if run.config is None else OmegaConf.select(run.config, f"dataloader.{part}.dataset")
    if node is None:
        raise UserError(f"the config names no data set dataloader.{part}.dataset")
    sets = nodes_of_sets(run.config.dataloader).values() if part == "test" else ()
    datasets = [instantiate(one) for one in [own.test.dataset for own in sets] or [node]]
    for dataset in datasets:
        if not isinstance(dataset, DetectionDataset):
            raise UserError(f"dataloader.{part}.dataset gives a {type(dataset).__name__}, not a DetectionDataset")
    return datasets[0] if len(datasets) == 1 else join_datasets(datasets)


class Reviews:
    """By run; one that can't be made raises the same error each time it is asked for."""

    def __init__(self) -> None:
        self._made: dict[int, Review | UserError] = {}

    def __getitem__(self, run: RunFiles) -> Review:
        """Raises:
        UserError: as `review_of`.
        """
        if id(run) not in self._made:
            self._made[id(run)] = _made(run)
        found = self._made[id(run)]
        if isinstance(found, UserError):
            raise found
        return found


def _made(run: RunFiles) -> Review | UserError:
    try:
        review = review_of(run)
        _check_agreement(review)
        return review
    except UserError as error:
        if best_evaluation(run):  # else nothing is amiss
            logger.warning("%s: %s", run.name, error.message)
        return error
    except Exception as error:  # what can't be analyzed for whatever reason must not cost the rest of the page
        logger.warning("the analysis of %s failed", run.name, exc_info=logger.isEnabledFor(logging.DEBUG))
        return UserError(f"the analysis of the detections failed with {type(error).__name__}: {error}")


def _check_agreement(review: Review) -> None:
    """Where run.json has no hash of the data, the AP tells whether it is that of the evaluation."""
    for task, result in review.analysis.tasks.items():
        now = _ap_by_set(review, result)
        for one in review.evaluation.parts:
            then = one.metrics.get(f"{task}{one.suffix}/AP")
            if then is not None and one.dataset in now and abs(then - now[one.dataset]) > SAME_AP:
                raise UserError(
                    f"{one.dataset} has changed since it was evaluated: {task}/AP was {then:.1f} and would be "
                    f"{now[one.dataset]:.1f}",
                    "put the data set back that the run was evaluated on",
                )


def _ap_by_set(review: Review, result: TaskResult) -> dict[str, float]:
    """AP of each set that was evaluated by itself; those that share a scanner can't be told apart."""
    if len(review.evaluation.parts) == 1:
        return {review.evaluation.dataset: result.summary["AP"]}
    scanners = {image[APART]: image["scanner"] for image in review.ground_truth["images"]}
    ap_of, sets_of = {group.name: group.ap for group in result.by_scanner}, Counter(scanners.values())
    return {name: ap_of[scanner] for name, scanner in scanners.items() if sets_of[scanner] == 1}
