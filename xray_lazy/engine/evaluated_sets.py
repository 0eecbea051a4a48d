"""The test sets of a config, evaluated as one or each by itself, and what is told of them together."""

import copy
import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from detectron2.config import instantiate
from detectron2.evaluation import DatasetEvaluator
from omegaconf import DictConfig, ListConfig, OmegaConf

from xray_lazy.data.dataset_places import short_names
from xray_lazy.data.datasets import DetectionDataset
from xray_lazy.errors import UserError

NAMES = "test.dataset.names"
Results = Mapping[str, Mapping[str, float]]  # metrics by task


class EvaluatedSet:
    """What is evaluated in one go: loader and evaluators, built when they are first needed.

    Args:
        dataloader: a config's `dataloader` node, with `test` and `evaluator`, which may be a list of them.
        name: stands before the names of its metrics; empty where there is one set only.
    """

    def __init__(self, dataloader: DictConfig, name: str = ""):
        self.name, self._dataloader = name, dataloader

    @cached_property
    def loader(self):
        return instantiate(self._dataloader.test)

    @cached_property
    def evaluators(self) -> list[DatasetEvaluator]:
        made = instantiate(self._dataloader.evaluator)
        return [made] if isinstance(made, DatasetEvaluator) else list(made)

    @property
    def dataset(self) -> DetectionDataset:
        return self.loader.dataset

    @property
    def has_items(self) -> bool:
        """False for clean bags, of which there is no AP."""
        return any(getattr(self.dataset, "trained_boxes", [1]))


def evaluated_sets(dataloader: DictConfig) -> list[EvaluatedSet]:
    """Those of a config: one, or with `dataloader.test_apart` each that `dataloader.test.dataset.names` names.

    Raises:
        UserError: nothing is named, or two sets have the same name.
    """
    return [EvaluatedSet(node, name) for name, node in nodes_of_sets(dataloader).items()]


def nodes_of_sets(dataloader: DictConfig) -> dict[str, DictConfig]:
    """The `dataloader` node of each test set, by its short name; raises as `evaluated_sets`."""
    if not dataloader.get("test_apart"):
        return {"": dataloader}
    names = OmegaConf.select(dataloader, NAMES)
    if not names:
        raise UserError(
            "dataloader.test_apart evaluates each of dataloader.test.dataset.names, and there are none",
            "name the sets there, or set dataloader.test_apart=False",
        )
    if not isinstance(names, ListConfig) or len(names) == 1:
        return {"": dataloader}
    return {
        short: _with_names(dataloader, reference) for short, reference in zip(short_names(names), names, strict=True)
    }


def _with_names(dataloader: DictConfig, reference: str | DictConfig) -> DictConfig:
    """The node in a copy of its whole config, so that all that refers to the names follows."""
    place = dataloader._get_full_key("")
    root = copy.deepcopy(dataloader._get_root())
    node: Any = OmegaConf.select(root, place) if place else root
    OmegaConf.update(node, NAMES, copy.deepcopy(reference), merge=False)
    return node


def together(sets: Sequence[EvaluatedSet], found: Sequence[Results]) -> dict[str, Mapping[str, float]]:
    """The results of all sets: means under the names of tasks, and each set's as `<set>/<task>`.

    A mean is of figures that all sets have. Sets without items, of which there is no AP, need not have them.
    """
    if len(sets) == 1:
        return dict(found[0])
    results: dict[str, Mapping[str, float]] = {}
    for task in dict.fromkeys(task for one in found for task in one):
        figures = dict.fromkeys(name for one in found for name in one.get(task, {}))
        means = {name: _mean(sets, [one.get(task, {}).get(name, math.nan) for one in found]) for name in figures}
        if means := {name: value for name, value in means.items() if not math.isnan(value)}:
            results[task] = means
    return results | {
        f"{one.name}/{task}": of for one, of_all in zip(sets, found, strict=True) for task, of in of_all.items()
    }


def _mean(sets: Sequence[EvaluatedSet], values: Sequence[float]) -> float:
    present = [value for value in values if not math.isnan(value)]
    lacking = any(one.has_items and math.isnan(value) for one, value in zip(sets, values, strict=True))
    return math.nan if lacking or not present else sum(present) / len(present)
