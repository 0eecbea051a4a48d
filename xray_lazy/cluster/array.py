"""Job arrays from Hydra's sweep grammar: `optimizer.lr=0.001,0.002 train.seed=range(3)` is six jobs."""

import itertools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from xray_lazy.config.override_grammar import expand_sweep
from xray_lazy.errors import UserError

MAX_JOBS = 1000
MAX_NAME = 100


@dataclass(frozen=True)
class Element:
    """One job of an array.

    Attributes:
        name: of its folder, from what varies: `lr=0.001_seed=2`; "" for the only one.
        overrides: each with one value.
    """

    name: str
    overrides: list[str]


def expand(overrides: Sequence[str]) -> list[Element]:
    """The jobs that overrides with sweeps describe: every combination, the last one varying fastest.

    Raises:
        UserError: an override is not in the grammar or can't be listed, two jobs are the same, there are too many, or
            none.
    """
    choices = [expand_sweep(text) for text in overrides]
    varying = [index for index, texts in enumerate(choices) if len(texts) > 1]
    count = 1
    for texts in choices:
        count *= len(texts)
    if count > MAX_JOBS:
        raise UserError(f"these overrides are {count} jobs, more than {MAX_JOBS}", "tools/sweep.py tries some of many")
    if empty := [text for text, texts in zip(overrides, choices, strict=True) if not texts]:
        raise UserError(f"{empty[0]} has no values", "give one at least")
    combinations = [list(texts) for texts in itertools.product(*choices)]
    keys = [_key(text) for text in overrides if not text.startswith("~")]
    for index in varying:
        key = _key(overrides[index])
        if keys.count(key) > 1:
            raise UserError(f"{key} is given twice, and once with several values", "give it once")
        if key == "train.output_dir":
            raise UserError("each job of an array has a folder of its own in train.output_dir", "give one folder")
        if len(set(choices[index])) < len(choices[index]):
            raise UserError(f"{overrides[index]}: a value is there twice", f"give each value of {key} once")
    labels = _labels([_key(overrides[index]) for index in varying])
    names = [
        _name([(label, texts[index]) for label, index in zip(labels, varying, strict=True)]) for texts in combinations
    ]
    return [Element(name, texts) for name, texts in zip(_distinct(names), combinations, strict=True)]


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+~")


def _labels(keys: list[str]) -> list[str]:
    """The last part of each key, or as many parts as tell it from the others."""
    labels = []
    for key in keys:
        parts = key.split(".")
        candidates = [".".join(parts[-count:]) for count in range(1, len(parts) + 1)]
        others = [other for other in keys if other != key]
        labels.append(next((c for c in candidates if not any(f".{o}".endswith(f".{c}") for o in others)), key))
    return labels


def _name(pairs: list[tuple[str, str]]) -> str:
    # only what a path, a shell and the overrides' grammar take without quotes
    parts = [f"{_plain(label)}={_plain(text.partition('=')[2])}" for label, text in pairs]
    return "_".join(parts)[:MAX_NAME]


def _plain(value: str) -> str:
    return re.sub(r"[^\w.+-]+", "-", value).strip("-") or "empty"


def _distinct(names: list[str]) -> list[str]:
    """Names that were cut or stripped to the same get a number."""
    total, taken = Counter(names), set(names)
    numbered = []
    for name in names:
        if total[name] > 1:
            name = next(free for number in itertools.count(1) if (free := f"{name}_{number}") not in taken)
            taken.add(name)
        numbered.append(name)
    return numbered
