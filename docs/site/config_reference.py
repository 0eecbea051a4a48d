"""The reference of all config keys, made from the config files, the classes they name, and their docstrings."""

import functools
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from argument_docs import argument_docs, is_ours
from config_comments import comments_by_key
from detectron2.utils.registry import locate
from omegaconf import OmegaConf

from xray_lazy.config import get_config

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Chapter:
    """A node of a config: its key in an experiment, where it is defined, and what it is for.

    Attributes:
        files: from a key in the node ("" is the node) to the file and the variable there whose comments explain it.
    """

    title: str
    key: str
    config: str
    variable: str
    text: str
    files: dict[str, tuple[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """A key: `given` where the config states it; else it is an argument that `+key=value` adds."""

    key: str
    type: str
    default: str
    meaning: str
    given: bool
    target: str | None  # dotted path of what takes it as an argument; None for a key of a plain dict


@dataclass(frozen=True)
class Node:
    """A part of the config that a class or function is made from, or a plain group of keys (target None)."""

    key: str
    target: str | None
    meaning: str
    rows: list[Row]


_BASE = "xray/mask_rcnn_r50.py"
_COMMON = "configs/common"
CHAPTERS = [
    Chapter(
        "The run: train", "train", _BASE, "train",
        "`configs/common/train.py`: what a run is, besides its data, model and optimizer.",
        {"": (f"{_COMMON}/train.py", "train"), "tracking": (f"{_COMMON}/tracking.py", "tracking")},
    ),
    Chapter(
        "Data: dataloader", "dataloader", _BASE, "dataloader",
        "`configs/common/data/xray.py`: which images are read, how they are prepared, how detections are evaluated.",
        {"": (f"{_COMMON}/data/xray.py", "dataloader")},
    ),
    Chapter(
        "Hooks: hooks", "hooks", _BASE, "hooks",
        "`configs/common/hooks.py`: what happens beside the training step. `~hooks.NAME` leaves one out, "
        "`+hooks.NAME='{_target_: my_package.MyHook}'` adds one; see [Training](../training.md).",
        {"": (f"{_COMMON}/hooks.py", "hooks")},
    ),
    Chapter(
        "Writers: writers", "writers", _BASE, "writers",
        "`configs/common/writers.py`: where numbers and images go; see [Tracking](../tracking.md).",
        {"": (f"{_COMMON}/writers.py", "writers"), "wandb.names": (f"{_COMMON}/writers.py", "names")},
    ),
    Chapter(
        "Evaluation beyond the plain pass: test", "test", _BASE, "test",
        "`configs/common/test.py`.",
        {"": (f"{_COMMON}/test.py", "test")},
    ),
    Chapter(
        "Optimizer: SGD", "optimizer", "common/optim.py", "sgd",
        "`sgd` in `configs/common/optim.py`, which the Mask R-CNNs take.",
        {"": (f"{_COMMON}/optim.py", "sgd"), "params": (f"{_COMMON}/optim.py", "groups")},
    ),
    Chapter(
        "Optimizer: AdamW", "optimizer", "common/optim.py", "adamw",
        "`adamw` in `configs/common/optim.py`, which Sparse R-CNN and ConvNeXt take. `optimizer.params` is as above.",
        {"": (f"{_COMMON}/optim.py", "adamw"), "params": (f"{_COMMON}/optim.py", "groups")},
    ),
    *(
        Chapter(
            f"Learning rate: {name.replace('_', ' ')}", "lr_multiplier", "common/schedule.py", name,
            f"`{name}` in `configs/common/schedule.py`; `lr_multiplier` of an experiment is one of these.",
            {"": (f"{_COMMON}/schedule.py", name)},
        )
        for name in ("cosine", "multi_step", "constant")
    ),
    Chapter(
        "Model: Mask R-CNN", "model", _BASE, "model",
        "`configs/common/models/mask_rcnn_fpn.py`, as `configs/xray/mask_rcnn_r50.py` has it. Faster R-CNN is the same "
        "without the three keys whose names begin with `mask`.",
        {"": (f"{_COMMON}/models/mask_rcnn_fpn.py", "model")},
    ),
    Chapter(
        "Model: Sparse R-CNN", "model", "projects/sparse_rcnn/common/model.py", "model",
        "`projects/sparse_rcnn/configs/common/model.py`; see [the project](../projects/sparse_rcnn.md).",
        {"": ("projects/sparse_rcnn/configs/common/model.py", "model")},
    ),
    Chapter(
        "Sparse R-CNN: box transformer", "model.init_proposal_boxes",
        "projects/sparse_rcnn/common/proposal_boxes.py", "box_transformer",
        "`box_transformer` in `projects/sparse_rcnn/configs/common/proposal_boxes.py`.",
        {"": ("projects/sparse_rcnn/configs/common/proposal_boxes.py", "box_transformer")},
    ),
    Chapter(
        "Sparse R-CNN: mask head", "model.mask_head",
        "projects/sparse_rcnn/common/mask_head.py", "mask_head",
        "`projects/sparse_rcnn/configs/common/mask_head.py`.",
        {"": ("projects/sparse_rcnn/configs/common/mask_head.py", "mask_head")},
    ),
]  # fmt: skip


@functools.cache
def written_meanings() -> dict[str, str]:
    """config_meanings.yaml: for keys that no comment explains, and arguments of others that no docstring does."""
    return yaml.safe_load((Path(__file__).parent / "config_meanings.yaml").read_text(encoding="utf-8"))


def nodes_of(chapter: Chapter) -> Iterator[Node]:
    """The chapter's nodes, each with the rows of its keys, the outer ones first."""
    config = get_config(chapter.config)
    tree = OmegaConf.to_container(OmegaConf.create({"root": config[chapter.variable]}, flags={"allow_objects": True}))
    comments = {}
    for prefix, (file, variable) in chapter.files.items():
        found = comments_by_key(ROOT / file, variable)
        comments |= {".".join(filter(None, (chapter.key, prefix, key))): text for key, text in found.items()}
    yield from _walk(chapter.key, tree["root"], comments, "")


def _walk(key: str, tree: Any, comments: dict[str, str], meaning: str) -> Iterator[Node]:
    target_name = tree.get("_target_")
    target = locate(target_name) if isinstance(target_name, str) else target_name
    path = f"{target.__module__}.{target.__qualname__}" if target else None
    documented = argument_docs(target) if target else {}
    parameters = _parameters(target) if target else {}
    rows, deeper = [], []

    def add(name: str, value: Any, given: bool) -> None:
        row_key = f"{key}.{name}" if key else name
        annotation = parameters[name].annotation if name in parameters else inspect.Parameter.empty
        own = written_meanings()
        written = own.get(row_key) or (own.get(f"{path}.{name}") if path else None)
        text = "; ".join(filter(None, (comments.get(row_key), (written or documented.get(name, "")).rstrip("."))))
        rows.append(Row(row_key, _type_name(annotation, value), _shown(value), text, given, path))
        if given and _is_tree(value):
            rows.pop()
            deeper.append((row_key, value, comments.get(row_key) or text))
        for number, item in enumerate(value) if given and isinstance(value, list) else ():
            if _is_tree(item):
                deeper.append((f"{row_key}.{number}", item, comments.get(f"{row_key}.{number}", "")))

    for name, value in tree.items():
        if name != "_target_":
            add(str(name), value, given=True)
    for name, parameter in parameters.items():
        if name not in tree and name in documented and parameter.default is not parameter.empty:
            add(name, parameter.default, given=False)
    if not target:  # groups of plain keys are shown with their parent's
        inner = [node for child in deeper for node in _walk(*child[:2], comments, child[2])]
        groups = [node for node in inner if node.target is None]
        yield Node(key, None, meaning, rows + [row for node in groups for row in node.rows])
        yield from (node for node in inner if node.target is not None)
        return
    yield Node(key, path, meaning, rows)
    for child in deeper:
        yield from _walk(*child[:2], comments, child[2])


def _is_tree(value: Any) -> bool:
    """Whether these are settings with meanings of their own, and not a value that happens to be a dict."""
    return isinstance(value, dict) and bool(value) and all(str(name).isidentifier() for name in value)


def _parameters(target: Any) -> dict[str, inspect.Parameter]:
    try:
        found = inspect.signature(target).parameters
    except (TypeError, ValueError):
        return {}
    hidden = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    # what others' classes take beyond the config is theirs to explain
    return {name: p for name, p in found.items() if p.kind not in hidden} if is_ours(target) else {}


def _type_name(annotation: Any, value: Any) -> str:
    if annotation is not inspect.Parameter.empty:
        name = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
        return re.sub(r"\b(?:\w+\.)+(?=\w)", "", name)
    if isinstance(value, str) and value.startswith("${"):
        return "reference"
    return "" if value is None else type(value).__name__


def _shown(value: Any) -> str:
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        return f"{len(value)} parts, below"
    if isinstance(value, str):
        return value or '""'
    if callable(value):
        return f"{value.__module__}.{value.__qualname__}"
    text = str(value)
    return text if len(text) <= 80 else text[:77] + "..."
