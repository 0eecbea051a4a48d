"""Evaluate a model on the config's test set and keep the results in the output folder."""

import logging
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
from xray_lazy.data.mapper import map_record
from xray_lazy.errors import UserError
from xray_lazy.evaluation.inference import evaluation_mode, run_inference
from xray_lazy.evaluation.protocols import SavesResults
from xray_lazy.evaluation.results_table import format_results
from xray_lazy.run_folder import RunFolder, check_folders
from xray_lazy.visualization.prediction_pictures import evenly_spaced

MARK_FILE = "evaluated_as.txt"
AUGMENTED_SUFFIX = "_TTA"  # detectron2's, at the names of tasks

logger = logging.getLogger(__name__)


class EvaluationRun:
    """The test loader and evaluator of a config, built when they are first needed.

    Args:
        dataloader: the config's `dataloader` node, with `test` and `evaluator`, which may be a list of them.
        output_dir: results go to `<output_dir>/evaluation/<dataset>/iter_<n><suffix>/`.
        autocast: gives the context that models run in.

    Attributes:
        is_unwanted: asked between two batches; where it is true on any process, the evaluation ends without results.
        mark: in the folder's name behind the iteration, where the results are not those of the run in `output_dir`.
        observers: called on the first process at the end of each evaluation, with the evaluators and the suffix. The
            evaluators then still hold all detections, which they forget when the observers have returned.
    """

    def __init__(
        self, dataloader: DictConfig, output_dir: str, autocast: Callable[[], AbstractContextManager] = nullcontext
    ):
        self.mark = ""
        self._dataloader, self._autocast = dataloader, autocast
        self.run_folder = RunFolder(output_dir)
        self.is_unwanted: Callable[[], bool] = bool  # never
        self.observers: list[Callable[[Sequence[DatasetEvaluator], str], None]] = []

    @cached_property
    def loader(self):
        return instantiate(self._dataloader.test)

    @cached_property
    def evaluators(self) -> list[DatasetEvaluator]:
        made = instantiate(self._dataloader.evaluator)
        return [made] if isinstance(made, DatasetEvaluator) else list(made)

    def __call__(self, model: nn.Module, iteration: int, suffix: str = "") -> dict[str, dict[str, float]]:
        """Evaluate on all processes together; the first gets the metrics by task and writes them, others get {}.

        Args:
            model: gives detections for the batches of the test loader.
            iteration: of the model's weights.
            suffix: at the names of the tasks and of the folder, to tell apart what is evaluated in another way.

        Raises:
            InferenceStopped: it was unwanted, on all processes.
        """
        with self._autocast():
            results = run_inference(model, self.loader, self.evaluators, is_unwanted=self.is_unwanted)
        if comm.is_main_process():
            folder = self._folder(iteration, suffix)
            for evaluator in self.evaluators:
                if isinstance(evaluator, SavesResults):
                    evaluator.save(folder)
            logger.info("results are in %s", folder)
            for observe in self.observers:
                observe(self.evaluators, suffix)
        comm.synchronize()
        for evaluator in self.evaluators:
            evaluator.reset()  # a large set's detections take gigabytes, which training may need
        return {f"{task}{suffix}": metrics for task, metrics in results.items()}

    def check_folders(self) -> None:
        """Refuse what would stop the results of an evaluation from being written.

        Raises:
            UserError: something else has the name of a folder of results.
        """
        folder = self.run_folder.evaluations_on(self.dataset.name)
        check_folders([folder, *folder.glob("iter_*")])

    def _folder(self, iteration: int, suffix: str) -> Path:
        folder = self.run_folder.evaluation(self.dataset.name, iteration, suffix)
        marked = self.run_folder.evaluation(self.dataset.name, iteration, self.mark + suffix)
        if not self.mark or self.run_folder.config.is_file():
            return marked
        sign = folder / MARK_FILE  # without a run in this folder, the first ones to come have the plain name
        if folder.is_dir() and not (sign.is_file() and sign.read_text() == self.mark):
            return marked
        folder.mkdir(parents=True, exist_ok=True)
        sign.write_text(self.mark)
        return folder

    @property
    def dataset(self) -> DetectionDataset:
        """The test set."""
        return self.loader.dataset

    @torch.no_grad()
    def predict(self, model: nn.Module, count: int) -> Iterator[tuple[dict, Instances]]:
        """Records of up to `count` images, evenly spread over the test set, and the model's instances for them."""
        with evaluation_mode(model):
            for record in evenly_spaced(self.dataset, count):
                with self._autocast():
                    (output,) = model([map_record(self.loader.mapper, record)])
                yield record, output["instances"].to("cpu")


def augmentation_enabled(cfg: DictConfig) -> bool:
    """Whether the config asks for test-time augmentation; one without a `test` node does not."""
    return bool(OmegaConf.select(cfg, "test.tta.enabled"))


def build_augmented(cfg: DictConfig, model: nn.Module) -> nn.Module:
    """`model` with the test-time augmentation of `cfg.test.tta`.

    Raises:
        UserError: there is none, or it refuses its settings.
    """
    node = cfg.test.tta.get("model")
    if not describes_call(node):
        raise UserError(
            "test.tta.enabled asks for test-time augmentation, but test.tta.model is none",
            "take `test` of configs/common/test.py, or set test.tta.enabled=False",
        )
    return instantiate({**node, "model": model})


def evaluate_augmented(cfg: DictConfig, run: EvaluationRun, model: nn.Module, iteration: int) -> dict:
    """Evaluate `model` plainly and with the test-time augmentation of `cfg.test.tta`; metrics of both by task."""
    augmented = build_augmented(cfg, model)
    results = run(model, iteration)
    logger.info("Once more, with test-time augmentation")
    results |= run(augmented, iteration, AUGMENTED_SUFFIX)
    if comm.is_main_process():
        logger.info("%s plain and with test-time augmentation:\n%s", run.dataset.name, format_results(results))
    return results
