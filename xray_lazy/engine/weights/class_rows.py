"""Class layers of a checkpoint for a model with other classes: what was learned of a class of the same name is kept."""

import copy
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from detectron2.data import MetadataCatalog
from omegaconf import DictConfig, ListConfig
from torch import nn

from xray_lazy.config.suggest import did_you_mean, nearest
from xray_lazy.engine.output_folder.earlier_run import recorded_classes
from xray_lazy.engine.weights.class_axes import ClassAxis, class_axes
from xray_lazy.errors import UserError
from xray_lazy.utils.wording import counted

# sets that are known by their number of classes, of detectron2's model zoo
KNOWN_SETS = {80: "coco_2017_train", 1203: "lvis_v1_train", 1230: "lvis_v0.5_train"}
CLASSES_SHOWN = 20
_NO_CLASSES = "the checkpoint has no class layers"

logger = logging.getLogger(__name__)


class ClassRows:
    """Fits the class layers of a checkpoint to a model: rows of classes with equal names, and of the background.

    Names are equal whatever their case and the characters between their words: "Cell_Phone" is "cell phone".

    Args:
        cfg: of the model; `train.class_map` has, by a class of the model, the class of the checkpoint whose rows it
            starts from, None for none. `train.checkpoint_classes` are the checkpoint's classes in their order, where
            it does not know them itself.
        model: with its initial weights, which new classes keep.
        class_names: of the model's classes, in their order.

    Raises:
        UserError: `train.class_map` is no map or names a class that the model has not; `train.checkpoint_classes` is
            no list of different names.
    """

    def __init__(self, cfg: DictConfig, model: nn.Module, class_names: Sequence[str]):
        self._cfg, self._model, self._names = cfg, model, tuple(class_names)
        self._map, self._given = _class_map(cfg), _checkpoint_classes(cfg)
        for own in self._map:
            if own not in self._names:
                raise UserError(
                    f"train.class_map: {own!r} is no class of the data set",
                    did_you_mean(nearest(own, self._names)) or f"its classes are {_listed(self._names)}",
                )

    def fit(self, content: Mapping[str, Any], path: str) -> dict[str, Any]:
        """The weights of a checkpoint by name, its class layers as the model has them; all else as it is.

        Args:
            content: of `read_weights_file`; path: of that file.

        Raises:
            UserError: as `check`.
        """
        weights, axes = content["model"], class_axes(self._cfg, self._model)
        number = _number_of_classes(axes, weights)
        there = self._names_there(number, content, path)
        if not there:
            self._warn(number)
            return weights
        sources = self._sources(there)
        if sources == list(range(number)) and len(sources) == number:
            return weights
        self._log(there, sources)
        own, learned = self._model.state_dict(), {name for name, _ in self._model.named_parameters()}
        classes = torch.tensor([-1 if source is None else source for source in sources])
        fitted = copy.copy(weights)  # with the versions of layers, which torch keeps beside the names
        for name in axes:
            if name not in weights or not _is_for(number, axes[name], own[name], weights[name]):
                continue
            if name in learned:
                fitted[name] = _fitted(own[name], weights[name], axes[name], classes, number)
            else:
                fitted[name] = own[name]
        return fitted

    def check(self, content: Mapping[str, Any], path: str) -> None:
        """Look whether the config's classes are there.

        Raises:
            UserError: `train.checkpoint_classes` are not as many as the checkpoint has, or `train.class_map` names one
                that it has not.
        """
        number = _number_of_classes(class_axes(self._cfg, self._model), content["model"])
        if there := self._names_there(number, content, path):
            self._sources(there)

    def _warn(self, number: int) -> None:
        """Of names that aren't known where they would matter."""
        why = f"the checkpoint has {number} classes whose names are not known" if number else _NO_CLASSES
        fix = "; train.checkpoint_classes with all of them in their order keeps what was learned of your own"
        if self._map:
            logger.warning("train.class_map has no effect: %s%s", why, fix if number else "")
        elif number and self._names and number != len(self._names):
            logger.warning("%s%s", why, fix)

    def _names_there(self, number: int, content: Mapping[str, Any], path: str) -> tuple[str, ...]:
        """The names of the checkpoint's classes; nothing where they aren't known, or the model's are not."""
        if not (number and self._names):
            return ()
        if self._given and len(self._given) != number:
            given = counted(len(self._given), "name")
            raise UserError(
                f"train.checkpoint_classes: there are {given}, but the checkpoint has {number} classes",
                "name all of them, in the order of their category ids",
            )
        recorded = content.get("class_names") or recorded_classes(Path(path).parent)
        if self._given or len(recorded) == number:
            return self._given or tuple(map(str, recorded))
        known = KNOWN_SETS.get(number)
        if known and number != len(self._names):
            return tuple(MetadataCatalog.get(known).thing_classes)
        return ()

    def _sources(self, there: Sequence[str]) -> list[int | None]:
        """For each class of the model the place of its class in the checkpoint."""
        places = {_bare(name): place for place, name in reversed(list(enumerate(there)))}
        exact = {name: place for place, name in enumerate(there)}
        sources = []
        for own in self._names:
            name = self._map.get(own, own)
            place = None if name is None else exact.get(str(name), places.get(_bare(str(name))))
            if place is None and name is not None and own in self._map:
                raise UserError(
                    f"train.class_map: {name!r}, for {own}, is no class of the checkpoint",
                    did_you_mean(nearest(str(name), there)) or f"its classes are {_listed(there)}",
                )
            sources.append(place)
        return sources

    def _log(self, there: Sequence[str], sources: Sequence[int | None]) -> None:
        pairs = list(zip(self._names, sources, strict=True))
        kept = [own if own == there[s] else f"{own} (its {there[s]})" for own, s in pairs if s is not None]
        new = [own for own, source in pairs if source is None]
        logger.info(
            "of the checkpoint's %d classes, the class layers keep %s; new, as initialised: %s",
            len(there),
            _listed(kept) or "none",
            _listed(new) or "none",
        )


def _number_of_classes(axes: Mapping[str, Mapping[int, ClassAxis]], weights: Mapping[str, Any]) -> int:
    """Of the checkpoint, 0 where it has no class layers. One that its classes share looks like a layer of one class."""
    numbers = [
        axis.number_of_classes(weights[name].shape[dimension]) or 0
        for name, of_weight in axes.items()
        for dimension, axis in of_weight.items()
        if axis.is_output and name in weights and weights[name].ndim
    ]
    return max(numbers, default=0)


def _is_for(number: int, axes: Mapping[int, ClassAxis], own: torch.Tensor, there: Any) -> bool:
    """Whether a weight of the checkpoint is that of the model, but for a number of classes."""
    if own.ndim != there.ndim:
        return False
    pairs = enumerate(zip(own.shape, there.shape, strict=True))
    return all(
        axes[dimension].number_of_classes(size_there) == number if dimension in axes else size == size_there
        for dimension, (size, size_there) in pairs
    )


def _fitted(
    own: torch.Tensor, there: Any, axes: Mapping[int, ClassAxis], classes: torch.Tensor, number: int
) -> torch.Tensor:
    """A weight of the model with what the checkpoint knows of it."""
    there, fitted = torch.as_tensor(there), own.detach().cpu().clone()
    here, kept = [], there
    for dimension, size in enumerate(fitted.shape):
        axis = axes.get(dimension)
        sources = axis.sources(classes, number) if axis else torch.arange(size)
        places = (sources >= 0).nonzero()[:, 0]
        kept = kept.index_select(dimension, sources[places])
        here.append(places)
    fitted[torch.meshgrid(*here, indexing="ij")] = kept.to(fitted.dtype)
    return fitted


def _bare(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.casefold()) or name


def _class_map(cfg: DictConfig) -> dict[str, Any]:
    given = cfg.train.get("class_map") or {}
    fix = "write it as '{gun: knife}': by a class of the data set, one of the checkpoint, or null for none"
    if not isinstance(given, DictConfig | dict):
        raise UserError(f"train.class_map: {given!r} is no map of classes", fix)
    lists = [there for there in given.values() if isinstance(there, DictConfig | ListConfig | dict | list)]
    if lists:
        raise UserError(f"train.class_map: {lists[0]!r} is no class of the checkpoint", fix)
    return {str(own): there for own, there in given.items()}


def _checkpoint_classes(cfg: DictConfig) -> tuple[str, ...]:
    given = cfg.train.get("checkpoint_classes")
    if given is None:
        return ()
    if not isinstance(given, ListConfig | list):
        raise UserError(
            f"train.checkpoint_classes: {given!r} is no list of names",
            f"write '[{given}, ...]', all of the checkpoint's classes in the order of their category ids",
        )
    names = tuple(map(str, given))
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if twice:
        raise UserError(
            f"train.checkpoint_classes: named more than once: {_listed(twice)}",
            "name each class of the checkpoint once, in the order of their category ids",
        )
    return names


def _listed(names: Sequence[str]) -> str:
    rest = f" and {len(names) - CLASSES_SHOWN} more" if len(names) > CLASSES_SHOWN else ""
    return ", ".join(names[:CLASSES_SHOWN]) + rest
