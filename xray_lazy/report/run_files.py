"""Read what a training has left in its output folder; whatever is missing or damaged is a remark, not an error."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from xray_lazy.errors import UserError
from xray_lazy.run_folder import CONFIG, METRICS, RECORD, Evaluation, RunFolder, number_or_none, read_json_lines

if TYPE_CHECKING:
    from omegaconf import DictConfig

Value = TypeVar("Value")

_TASK_METRIC = re.compile(r"([^/]+/)?(bbox|segm|keypoints|screening)\w*/")  # perhaps of one of several sets
_LOG_TIME = re.compile(r"^\[(\d\d)/(\d\d) (\d\d):(\d\d):(\d\d)\]", re.MULTILINE)


@dataclass
class RunFiles:
    """One training.

    Attributes:
        name: the folder's, made longer where runs side by side have the same.
        record: the content of run.json, empty without one.
        lines: of metrics.json, by ascending iteration.
        evaluations: of all data sets, the oldest first.
        log: log.txt's text.
        problems: what is missing or damaged, in words.
    """

    folder: Path
    name: str
    record: dict[str, Any]
    config: "DictConfig | None"
    lines: list[dict]
    evaluations: list[Evaluation]
    log: str
    problems: list[str] = field(default_factory=list)

    @property
    def done(self) -> int:
        """Iterations that metrics.json knows of."""
        return self.lines[-1]["iteration"] + 1 if self.lines else 0

    @cached_property
    def scores(self) -> dict[int, dict[str, float | None]]:
        """The metrics of each evaluation by iteration, from metrics.json and from the folders of `dataset`."""
        scores: dict[int, dict[str, float | None]] = {}
        for evaluation in self.evaluations:
            if evaluation.dataset == self.dataset:
                scores.setdefault(evaluation.iteration, {}).update(evaluation.metrics)
        for line in self.lines:
            found = {name: value for name, value in line.items() if _TASK_METRIC.match(name)}
            if found:
                scores.setdefault(line["iteration"], {}).update(found)
        return dict(sorted(scores.items()))

    @cached_property
    def dataset(self) -> str | None:
        """The test set: as recorded, else the one that was evaluated most."""
        recorded = (self.record.get("datasets") or {}).get("test") or {}
        names = [evaluation.dataset for evaluation in self.evaluations]
        return recorded.get("name") or (max(set(names), key=names.count) if names else None)

    def values(self, name: str) -> tuple[list[int], list[float | None]]:
        """A logged value over the iterations that were done then."""
        rows = [line for line in self.lines if name in line]
        return [row["iteration"] + 1 for row in rows], [number_or_none(row[name]) for row in rows]

    def logged_names(self) -> list[str]:
        return list(dict.fromkeys(name for line in self.lines for name in line if name != "iteration"))


def read_run(folder: str | Path) -> RunFiles:
    """What there is of a run.

    Raises:
        UserError: there is no such folder, or nothing in it is of a training.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}", "give the train.output_dir of a training")
    files = RunFolder(folder)
    files.check_is_no_sweep()
    if not any(file.is_file() for file in (files.record, files.config, files.metrics)):
        raise UserError(
            f"{folder} is not the output folder of a training: it has no {RECORD}, {CONFIG} or {METRICS}",
            "give the train.output_dir of a training",
        )
    problems: list[str] = []
    record = _read(files.record, lambda path: dict(json.loads(path.read_bytes())), {}, problems)
    lines = _read(files.metrics, read_json_lines, [], problems)
    if not lines and files.metrics.is_file() and files.metrics.stat().st_size:
        problems.append(f"{files.metrics} holds no line of metrics: it is damaged, or not of a training.")
    log = files.log()
    return RunFiles(
        folder=folder,
        name=folder.resolve().name,
        record=record,
        config=_read(files.config, _load_config, None, problems),
        lines=lines,
        evaluations=_evaluations(files, problems),
        log=log.read_text(encoding="utf-8", errors="replace") if log.is_file() else "",
        problems=problems,
    )


def log_times(log: str, first_year: int) -> list[datetime]:
    """The times of a log's lines, which don't tell their year."""
    times: list[datetime] = []
    year = first_year
    for stamp in _LOG_TIME.findall(log):
        try:
            time = datetime(year, *map(int, stamp))
            if times and time < times[-1] - timedelta(days=180):
                year += 1
                time = time.replace(year=year)
        except ValueError:
            continue
        times.append(time)
    return times


def _load_config(path: Path) -> "DictConfig":
    from xray_lazy.config import load_config

    return load_config(path)


def _read(path: Path, reader: Callable[[Path], Value], missing: Value, problems: list[str]) -> Value:
    if not path.is_file():
        problems.append(f"There is no {path.name} in {path.parent}.")
        return missing
    try:
        return reader(path)
    except Exception as error:  # a config may name classes that this Python has not, in many ways
        reason = getattr(error, "message", None) or f"{type(error).__name__}: {error}"
        problems.append(f"{path} can't be read: {reason}")
        return missing


def _evaluations(folder: RunFolder, problems: list[str]) -> list[Evaluation]:
    found = [evaluation for evaluation in folder.evaluations() if re.fullmatch(r"(_\w+)?", evaluation.suffix)]
    faults = [(evaluation.folder / METRICS, evaluation.fault) for evaluation in found if evaluation.fault]
    problems += [f"{path} can't be read: {fault}" for path, fault in faults]
    return [evaluation for evaluation in found if evaluation.content]
