"""The sets that a recipe is for: named on a command line, some to train on, some to evaluate on."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from xray_lazy.config.load import config_folder
from xray_lazy.data.check import CocoSet, open_sets
from xray_lazy.data.dataset_places import available_datasets
from xray_lazy.data.datasets import load_datasets
from xray_lazy.data.wanted_sets import reference, scanner_and_split
from xray_lazy.engine.recipe.class_rules import learns_masks
from xray_lazy.errors import UserError

EVALUATED = ("val", "test")
_OVERRIDE = re.compile(r"(\+{0,2}[A-Za-z_][\w.\[\]-]*=|~)")


@dataclass(frozen=True)
class ChosenSets:
    """Sets for training and evaluation.

    Attributes:
        train, test: as `load_datasets` takes them.
        cautions: what to know of the choice.
    """

    train: Any
    test: Any
    cautions: tuple[str, ...] = ()


def split_words(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Names and files of sets, and overrides of a config, from a command line with these in any order."""
    overrides = [word for word in words if _OVERRIDE.match(word) and not os.path.exists(word)]
    return [word for word in words if word not in overrides], overrides


def choose_sets(arguments: Sequence[str], root: str | None = None) -> ChosenSets:
    """Which of the sets are for training, and which for evaluation.

    Args:
        arguments: names (`xray_smith_train`) and pairs of a JSON file and its folder. Val and test sets, and of several
            files the last one, are for evaluation; without any, the val sets of the named scanners.
        root: the folder of the named sets.

    Raises:
        UserError: a set is missing or not COCO, or none is left for training.
    """
    sets = open_sets(arguments, root)
    train = [one for one in sets if scanner_and_split(one.name)[1] not in EVALUATED]
    test = [one for one in sets if one not in train]
    if not test and len(train) > 1 and not scanner_and_split(train[-1].name)[1]:
        test = [train.pop()]
    if not train:
        raise UserError(
            f"there is no set to train on among {', '.join(arguments)}",
            "name one: xray_smith_train, or ANNOTATIONS.json IMAGES_DIR",
        )
    names = [_reference(one) for one in train]
    beside = [re.sub("_train$", "_val", name) for name in names if isinstance(name, str)]
    has_beside = len(beside) == len(names) and set(beside) <= set(available_datasets(root)) - set(names)
    evaluated = [_reference(one) for one in test] or (beside if has_beside else [])
    return ChosenSets(_one_or_all(names), _one_or_all(evaluated or names), () if evaluated else (_NO_VALIDATION,))


def fitting_config(sets: ChosenSets, root: str | None = None) -> str:
    """The packaged config for sets with masks, or for those without."""
    name = "mask_rcnn_r50.py" if learns_masks(load_datasets(sets.train, root)) else "faster_rcnn_r50.py"
    return os.path.relpath(config_folder() / "xray" / name)


_NO_VALIDATION = (
    "there is no validation set: the training images are evaluated, whose AP says how well they are learned by "
    "heart. Split the set first (tools/dataset.py split), and name its parts here"
)


def _reference(one: CocoSet) -> str | dict:
    return one.name if scanner_and_split(one.name)[1] else reference(one)


def _one_or_all(references: list) -> Any:
    return references[0] if len(references) == 1 else references
