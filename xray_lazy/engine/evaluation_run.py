"""Evaluate a model on the config's test sets and keep the results in the output folder."""

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from pathlib import Path

import torch
from detectron2.config import instantiate
from detectron2.evaluation import DatasetEvaluator
from detectron2.structures import Instances
from detectron2.utils import comm
from omegaconf import DictConfig, OmegaConf
from torch import nn

from xray_lazy.config.keys import describes_call
from xray_lazy.data.datasets import DetectionDataset
from xray_lazy.data.image_reader import Reader, reader_of
from xray_lazy.data.mapper import map_record
from xray_lazy.engine.evaluated_sets import EvaluatedSet, Results, evaluated_sets, together
from xray_lazy.engine.processes.step_limit import step_in_time
from xray_lazy.errors import UserError
from xray_lazy.evaluation.inference import evaluation_mode, run_inference
from xray_lazy.evaluation.protocols import JoinsSets, NamesMetrics, SavesResults, TellsMissing
from xray_lazy.evaluation.results_table import format_results
from xray_lazy.run_folder import MEAN_OF, METRICS, RunFolder, check_folders
from xray_lazy.utils.atomic_file import write_json
from xray_lazy.utils.wording import counted
from xray_lazy.visualization.prediction_images import evenly_spaced

MARK_FILE = "evaluated_as.txt"
AUGMENTED_SUFFIX = "_TTA"  # detectron2's, at the names of tasks

logger = logging.getLogger(__name__)


class EvaluationRun:
    """The test sets of a config, whose loaders and evaluators are built when they are first needed.

    Args:
        dataloader: the config's `dataloader` node, with `test` and `evaluator`, which may be a list of them; see
            `evaluated_sets`.
        output_dir: results go to `<output_dir>/evaluation/<dataset>/iter_<n><suffix>/`.
        autocast: gives the context that models run in.

    Attributes:
        is_unwanted: asked between two batches; where it is true on any process, the evaluation ends without results.
        mark: in the folder's name behind the iteration, where the results are not those of the run in `output_dir`.
        observers: called on the first process at the end of the evaluation of each set, with the evaluators, the suffix
            and the set's name. The evaluators then still hold all detections, which they forget when the observers
            have returned.
        observers_of_all: likewise after all sets, with them and the suffix.
    """

    def __init__(
        self, dataloader: DictConfig, output_dir: str, autocast: Callable[[], AbstractContextManager] = nullcontext
    ):
        self.mark = ""
        self._dataloader, self._autocast = dataloader, autocast
        self.run_folder = RunFolder(output_dir)
        self.is_unwanted: Callable[[], bool] = bool  # never
        self.observers: list[Callable[[Sequence[DatasetEvaluator], str, str], None]] = []
        self.observers_of_all: list[Callable[[Sequence[EvaluatedSet], str], None]] = []

    @cached_property
    def sets(self) -> list[EvaluatedSet]:
        return evaluated_sets(self._dataloader)

    @cached_property
    def reader(self) -> Reader | None:
        """How the images' files are read."""
        return reader_of(self._dataloader)

    def __call__(self, model: nn.Module, iteration: int, suffix: str = "") -> dict[str, dict[str, float]]:
        """Evaluate on all processes together; the first gets the metrics by task and writes them, others get {}.

        Of several sets that are evaluated apart, a task's metrics are the means over them, or what an evaluator tells
        of all together; each set's own are those of the task `<set>/<task>`.

        Args:
            model: gives detections for the batches of the test loader.
            iteration: of the model's weights.
            suffix: at the names of the tasks and of the folder, to tell apart what is evaluated in another way.

        Raises:
            InferenceStopped: it was unwanted, on all processes.
        """
        results = together(self.sets, [self._evaluate(one, model, iteration, suffix) for one in self.sets])
        if comm.is_main_process():
            for same in zip(*(one.evaluators for one in self.sets), strict=True):
                if isinstance(same[0], JoinsSets):
                    results |= same[0].over_sets(same)
            if len(self.sets) > 1:
                self._save(results, iteration, suffix)
            for observe in self.observers_of_all:
                observe(self.sets, suffix)
        return {f"{task}{suffix}": dict(metrics) for task, metrics in results.items()}

    def _evaluate(
        self, one: EvaluatedSet, model: nn.Module, iteration: int, suffix: str
    ) -> dict[str, dict[str, float]]:
        with self._autocast():
            results = run_inference(
                model, one.loader, one.evaluators, is_unwanted=self.is_unwanted, in_time=step_in_time
            )
        if comm.is_main_process():
            folder = self._folder(one.dataset.name, iteration, suffix)
            for evaluator in one.evaluators:
                if isinstance(evaluator, SavesResults):
                    evaluator.save(folder)
            logger.info("results are in %s", folder)
            for observe in self.observers:
                observe(one.evaluators, suffix, one.name)
        comm.synchronize()
        for evaluator in one.evaluators:
            evaluator.reset()  # a large set's detections take gigabytes, which training may need
        return results

    def _save(self, results: Results, iteration: int, suffix: str) -> None:
        """Tell and write what is known of all sets together."""
        summaries = {task: {name: v for name, v in of.items() if "-" not in name} for task, of in results.items()}
        rows = sorted(summaries.items(), key=lambda item: "/" not in item[0])  # those of all together last
        logger.info("Each of %s, and all together:\n%s", counted(len(self.sets), "set"), format_results(dict(rows)))
        own = {task: metrics for task, metrics in results.items() if "/" not in task}
        content = {"dataset": self.name, MEAN_OF: [one.dataset.name for one in self.sets]}
        content["pictures"] = sum(len(one.dataset) for one in self.sets)
        for task, metrics in own.items():
            content[task] = {name: None if math.isnan(value) else value for name, value in metrics.items()}
        write_json(self._folder(self.name, iteration, suffix) / METRICS, content, indent=2)

    def check(self) -> None:
        """Refuse what would stop an evaluation, or its results from being written.

        Raises:
            UserError: an evaluator refuses its arguments or the data, or something else has the name of a folder of
                results.
        """
        for one in self.sets:
            _ = one.evaluators
        for name in {self.name, *(one.dataset.name for one in self.sets)}:
            folder = self.run_folder.evaluations_on(name)
            check_folders([folder, *folder.glob("iter_*")])

    def _folder(self, dataset: str, iteration: int, suffix: str) -> Path:
        folder = self.run_folder.evaluation(dataset, iteration, suffix)
        marked = self.run_folder.evaluation(dataset, iteration, self.mark + suffix)
        if not self.mark or self.run_folder.config.is_file():
            return marked
        sign = folder / MARK_FILE  # without a run in this folder, the first ones to come have the plain name
        if folder.is_dir() and not (sign.is_file() and sign.read_text() == self.mark):
            return marked
        folder.mkdir(parents=True, exist_ok=True)
        sign.write_text(self.mark)
        return folder

    @property
    def datasets(self) -> list[DetectionDataset]:
        """The test sets."""
        return [one.dataset for one in self.sets]

    @property
    def name(self) -> str:
        """Of all test sets together."""
        return "+".join(str(dataset.name) for dataset in self.datasets)

    def dataset_of(self, metric: str) -> str:
        """The name of the data set that a metric is of, or of all together."""
        of = metric.partition("/")[0]
        return next((one.dataset.name for one in self.sets if one.name and one.name == of), self.name)

    def metric_names(self) -> list[str] | None:
        """All metrics that there may be: `bbox/AP`, `smith/bbox/AP`; None where an evaluator doesn't tell its own."""
        if not {"test", "evaluator"} <= set(self._dataloader):
            return None
        evaluators = [(one.name, evaluator) for one in self.sets for evaluator in one.evaluators]
        if not all(isinstance(evaluator, NamesMetrics) for _, evaluator in evaluators):
            return None
        own = [(of, name) for of, evaluator in evaluators for name in evaluator.metric_names()]
        return list(dict.fromkeys([name for _, name in own] + [f"{of}/{name}" for of, name in own if of]))

    def missing_metrics(self) -> dict[str, str]:
        """Those of `metric_names` that have no value in any evaluation, with what the test sets lack for it."""
        found: dict[str, str] = {}
        for same in zip(*(one.evaluators for one in self.sets), strict=True):
            if isinstance(same[0], TellsMissing):
                found |= same[0].missing_metrics(same)
                for one, own in zip(self.sets, same, strict=True):
                    if one.name:
                        found |= {f"{one.name}/{name}": reason for name, reason in own.missing_metrics([own]).items()}
        return found

    @torch.no_grad()
    def predict(self, model: nn.Module, count: int) -> Iterator[tuple[dict, Instances]]:
        """Records of about `count` images, evenly spread over the test sets, and the model's instances for them."""
        share = math.ceil(count / len(self.sets))
        with evaluation_mode(model):
            for one in self.sets:
                for record in evenly_spaced(one.dataset, share):
                    with self._autocast():
                        (output,) = model([map_record(one.loader.mapper, record)])
                    yield record, output["instances"].to("cpu")


def augmentation_enabled(cfg: DictConfig) -> bool:
    """Whether the config asks for test-time augmentation; one without a `test` node does not."""
    return bool(OmegaConf.select(cfg, "test.tta.enabled"))


def augmentation_node(cfg: DictConfig) -> DictConfig:
    """The node `test.tta.model`, which takes the model that is evaluated.

    Raises:
        UserError: there is none, or it has a model of its own.
    """
    node = cfg.test.tta.get("model")
    if not describes_call(node):
        raise UserError(
            "test.tta.enabled asks for test-time augmentation, but test.tta.model is none",
            "take `test` of configs/common/test.py, or set test.tta.enabled=False",
        )
    if node.get("model") is not None:
        raise UserError(
            "test.tta.model.model is given, but the model that is evaluated takes its place",
            "leave it null; scaled copies and tiles of an image don't go together",
        )
    return node


def build_augmented(cfg: DictConfig, model: nn.Module) -> nn.Module:
    """`model` with the test-time augmentation of `cfg.test.tta`.

    Raises:
        UserError: as `augmentation_node`, or it refuses its settings.
    """
    return instantiate({**augmentation_node(cfg), "model": model})


def evaluate_augmented(cfg: DictConfig, run: EvaluationRun, model: nn.Module, iteration: int) -> dict:
    """Evaluate `model` plainly and with the test-time augmentation of `cfg.test.tta`; metrics of both by task."""
    augmented = build_augmented(cfg, model)
    results = run(model, iteration)
    logger.info("Once more, with test-time augmentation")
    results |= run(augmented, iteration, AUGMENTED_SUFFIX)
    if comm.is_main_process():
        logger.info("%s plain and with test-time augmentation:\n%s", run.name, format_results(results))
    return results
