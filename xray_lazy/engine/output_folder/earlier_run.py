"""What a run in a folder has recorded, against what its weights are used with now."""

import hashlib
import json
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from xray_lazy.config import flatten, load_config
from xray_lazy.data.datasets import DetectionDataset
from xray_lazy.data.fingerprint import fingerprint
from xray_lazy.errors import UserError
from xray_lazy.run_folder import FINAL, RunFolder, iteration_of

MEASURES = (
    "model.",
    "dataloader.test.",
    "dataloader.test_apart",
    "dataloader.evaluator.",
    "test.",
)  # what results depend on
UNMEASURED = ("num_workers", "test.tta.enabled")  # it adds results under names of their own

logger = logging.getLogger(__name__)


def check_data_of_run(folder: str | Path, part: str, *datasets: DetectionDataset) -> bool:
    """Whether data sets are what the run in `folder` had; a warning where their content is another one.

    Args:
        folder: with `run.json`; without it nothing is known, and True is returned.
        part: "train" or "test".
        datasets: that are used now.

    Raises:
        UserError: it has other classes or another order of them, so that each number of the model would mean another.
    """
    recorded, classes = recorded_datasets(folder), recorded_classes(folder)
    for dataset in datasets:
        check_classes_of_model(dataset, classes, str(folder))
    before, now = recorded.get(part), fingerprint(*datasets)
    if before is None or before.get("name") != now["name"] or _content(before) == _content(now):
        return before is None or before.get("name") == now["name"]
    counts = [f"{facts['pictures']} images and {facts['annotations']} annotations" for facts in (before, now)]
    message = f"{now['name']} has changed since {folder} was trained: {counts[0]} then, {counts[1]} now"
    if counts[0] == counts[1]:
        message = f"{now['name']} has changed since {folder} was trained: {counts[0]} as then, but not the same"
    logger.warning("%s", message)
    return False


def check_classes_of_model(dataset: DetectionDataset, classes: Sequence[str], model: str) -> None:
    """Raises UserError where a data set has other `classes` than the model, or in another order; unknown ones pass."""
    names = tuple(getattr(dataset, "class_names", ()))
    if not classes or not names or tuple(classes) == names:
        return
    raise UserError(
        f"the classes of {dataset.name} are not those that {model} was trained with: "
        f"{', '.join(names)} / {', '.join(classes)}",
        "take the data set of that training, or number its category ids, whose order counts, as the second list has "
        "them; to train other classes, start a new run with train.init_checkpoint",
    )


def mark_of_evaluation(cfg: DictConfig, checkpoint: dict[str, Any], is_same_data: bool) -> str:
    """What an evaluation's folder has behind its iteration: "" for the results of the run itself that is there.

    Results of other weights, settings or data have a name made of these, so that they replace only their own kind.
    """
    folder, weights = Path(cfg.train.output_dir), Path(cfg.train.init_checkpoint)
    present = RunFolder(folder).config
    is_of_run = present.is_file() and is_same_data and _is_of_run(folder, weights, checkpoint)
    if is_of_run and _settings(load_config(present)) == _settings(cfg):
        return ""
    digest = hashlib.sha256(repr(_settings(cfg)).encode())
    if weights.is_file():
        with open(weights, "rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    else:
        digest.update(str(weights).encode())
    return f"_{digest.hexdigest()[:8]}"


def _is_of_run(folder: Path, weights: Path, checkpoint: dict[str, Any]) -> bool:
    """Whether a file has weights that the run evaluates under their iteration, not averaged ones."""
    if weights.resolve().parent != folder.resolve() or weights.stem.endswith("_ema"):
        return False
    judged_by = checkpoint.get("evaluation") or f"iter_{checkpoint.get('iteration')}"
    is_last = weights.stem == FINAL or iteration_of(weights.name) is not None
    return (is_last or "metric" in checkpoint) and Path(judged_by).name == f"iter_{checkpoint.get('iteration')}"


def _settings(cfg: DictConfig) -> list[tuple[str, Any]]:
    values = flatten(cfg).items()
    matters = (item for item in values if item[0].startswith(MEASURES) and not item[0].endswith(UNMEASURED))
    return sorted((key, str(value)) for key, value in matters)


def _content(facts: dict[str, Any]) -> tuple:
    return facts.get("pictures"), facts.get("annotations"), _hashes(facts.get("files", {}).values())


def _hashes(values: Iterable[str | None]) -> list[str]:
    return [value for value in values if value]


def recorded_classes(folder: str | Path) -> tuple[str, ...]:
    """The classes that the run in a folder was trained with, in their order; none where they aren't known."""
    recorded = (facts["classes"] for facts in recorded_datasets(folder).values() if facts.get("classes"))
    return tuple(next(recorded, ()))


def recorded_datasets(folder: str | Path) -> dict[str, dict[str, Any]]:
    """What the `run.json` of a folder says of each data set; nothing where it is not there or is damaged."""
    try:
        datasets = json.loads(RunFolder(folder).record.read_bytes())["datasets"]
        return {part: facts for part, facts in datasets.items() if isinstance(facts, dict)}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}
