"""What is in the output folder of a run: the one place that knows the names of its files, and reads what they tell."""

import json
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from xray_lazy.errors import UserError
from xray_lazy.failure import FAILURE_FILE
from xray_lazy.utils.atomic_file import remove_if_free
from xray_lazy.utils.results_place import writing_fault

CONFIG, RECORD, METRICS, LOG, LAST = "config.yaml", "run.json", "metrics.json", "log.txt", "last_checkpoint"
FINAL, FINAL_AVERAGE, BEST = "model_final", "model_final_ema", "model_best"  # checkpoints, without their ending
PREDICTIONS, CATEGORIES = "predictions.json", "per_category.csv"  # beside METRICS in the folder of an evaluation
EVALUATIONS = "evaluation"
MEAN_OF = "mean_of"  # in METRICS of several sets that are evaluated apart: their names
FOLDERS = ("tensorboard", "wandb", EVALUATIONS, "evaluator", "visualizations", "profile", "analysis")
FILES = (LAST, RECORD, "code*.diff", f"{LOG}*", METRICS, "report.html", FAILURE_FILE)
SWEEP_RECORD = "sweep.yaml"  # in the folder of a sweep, whose trials have run folders below
MAIN_METRICS = ("segm/AP", "bbox/AP")

_NUMBER = "[0-9]" * 7
_PERIODIC = re.compile(r"model_(\d{7})(\.pth)?")
_EVALUATION = re.compile(r"iter_(\d+)(.*)")
MARK = "^_[0-9a-f]{8}"  # behind the iteration: results of other weights, settings or data than the training's


@dataclass(frozen=True)
class Evaluation:
    """A folder `evaluation/<dataset>/iter_<n><suffix>/`.

    Attributes:
        iteration: counted from 0, as everywhere in files.
        suffix: of what was evaluated in another way, such as `_EMA`.
        content: of its metrics.json; empty where that is not there or is damaged.
        fault: how it is damaged; else empty.
    """

    folder: Path
    iteration: int
    suffix: str
    content: Mapping[str, Any] = field(default_factory=dict)
    fault: str = ""

    @property
    def dataset(self) -> str:
        return self.folder.parent.name

    @property
    def name(self) -> str:
        return f"{self.dataset}/{self.folder.name}"

    @property
    def images(self) -> int | None:
        """Of the data set."""
        return self.content.get("pictures")

    @property
    def predictions(self) -> Path:
        return self.folder / PREDICTIONS

    @cached_property
    def parts(self) -> list["Evaluation"]:
        """Those of each set, where this one is of several sets that were evaluated apart; itself else."""
        names = self.content.get(MEAN_OF)
        if not isinstance(names, list):
            return [self]
        folders = [self.folder.parents[1] / str(name) / self.folder.name for name in names]
        return [Evaluation(folder, self.iteration, self.suffix, *_metrics(folder)) for folder in folders]

    @property
    def has_predictions(self) -> bool:
        return all(one.predictions.is_file() for one in self.parts)

    @cached_property
    def metrics(self) -> dict[str, float | None]:
        """By names such as `bbox/AP`, with the suffix at the task; None where there is no instance."""
        return {
            f"{task}{self.suffix}/{name}": number_or_none(value)
            for task, values in self.content.items()
            if isinstance(values, dict)
            for name, value in values.items()
        }

    def quality(self, metric: str = "") -> float | None:
        """The value of a metric; by default mask AP, else box AP."""
        names = [metric] if metric else [name.replace("/", f"{self.suffix}/") for name in MAIN_METRICS]
        return next((value for name in names if (value := self.metrics.get(name)) is not None), None)


def best_evaluation(evaluations: Sequence[Evaluation], metric: str = "") -> Evaluation | None:
    """The one of the highest `Evaluation.quality`, the first of equal ones; the last where none has any."""
    judged = [(quality, -place) for place, e in enumerate(evaluations) if (quality := e.quality(metric)) is not None]
    if judged:
        return evaluations[-max(judged)[1]]
    return evaluations[-1] if evaluations else None


class RunFolder:
    """The output folder of a run, which need not be there.

    Attributes:
        path: of the folder; those of its files are named after them.
        last: a file with the name of the checkpoint to resume from.
        stop: a file that the user makes to end training.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        self.config, self.record, self.diff = self.path / CONFIG, self.path / RECORD, self.path / "code.diff"
        self.metrics, self.report = self.path / METRICS, self.path / "report.html"
        self.last, self.stop = self.path / LAST, self.path / "stop"
        self.final, self.final_average = self.checkpoint(FINAL), self.checkpoint(FINAL_AVERAGE)
        self.evaluator, self.visualizations = self.path / "evaluator", self.path / "visualizations"
        self.profile, self.analysis = self.path / "profile", self.path / "analysis"

    def log(self, rank: int = 0) -> Path:
        """Of a process."""
        return self.path / (f"{LOG}.rank{rank}" if rank else LOG)

    def checkpoint(self, name: str) -> Path:
        """By its name without ending."""
        return self.path / f"{name}.pth"

    def best_record(self, checkpoint: str = BEST) -> Path:
        """What is known of a best checkpoint of this name."""
        return self.path / f"{checkpoint.removeprefix('model_')}.json"

    def best_records(self) -> list[Path]:
        """Those of all best checkpoints; hooks that keep one by another metric name it themselves."""
        return sorted(self.path.glob("best*.json"))

    def periodic(self) -> list[Path]:
        """The periodic checkpoints, newest first."""
        return sorted((p for p in self.path.glob("model_*.pth") if iteration_of(p.name) is not None), reverse=True)

    def newest(self) -> str:
        """The file name of the checkpoint to resume from; empty where none of this folder is named."""
        try:
            name = self.last.read_text(errors="replace").strip()
        except FileNotFoundError:
            return ""
        return name if name == os.path.basename(name) else ""

    def resumable(self) -> list[Path]:
        """The checkpoints, the one to resume from first, also where its name was lost."""
        newest = self.newest()
        # the final one behind the others: it may be of an end before the run was made longer
        files = [*([self.path / newest] if newest else []), *self.periodic(), self.final]
        return [path for path in dict.fromkeys(files) if path.is_file()]

    def weights(self) -> list[Path]:
        """The checkpoints, the one to use first: the best, the final one, and the periodic ones from the newest on."""
        return [path for path in (self.checkpoint(BEST), self.final, *self.periodic()) if path.is_file()]

    def holds_checkpoint(self) -> bool:
        """Whether a run has saved checkpoints, also where their files or the name of the newest are gone."""
        return self.last.is_file() or bool(self.resumable())

    def holds_run(self) -> bool:
        return self.config.is_file() or self.holds_checkpoint()

    def is_complete(self) -> bool:
        """Whether training is done: the final checkpoint is there, and nothing was saved after it."""
        return self.final.is_file() and self.newest() in ("", self.final.name)

    def is_under_way(self) -> bool:
        """Whether training has begun and is not done."""
        return self.last.is_file() and self.newest() != self.final.name

    def has_ended(self) -> bool:
        """Whether the final checkpoint is of the run's last start, which writes the record."""
        try:
            return self.final.stat().st_mtime_ns >= self.record.stat().st_mtime_ns
        except FileNotFoundError:
            return self.final.exists()

    def read_metrics(self) -> list[dict]:
        """What training has logged, as `read_json_lines`; nothing where there is no such file."""
        return read_json_lines(self.metrics) if self.metrics.is_file() else []

    def evaluations_on(self, dataset: str) -> Path:
        """The folder of all evaluations on a data set."""
        return self.path / EVALUATIONS / dataset

    def evaluation(self, dataset: str, iteration: int, suffix: str = "") -> Path:
        return self.evaluations_on(dataset) / f"iter_{iteration}{suffix}"

    def evaluations(self) -> list[Evaluation]:
        """All that are there, by iteration."""
        folders = [(path, _EVALUATION.fullmatch(path.name)) for path in self.path.glob(f"{EVALUATIONS}/*/iter_*")]
        found = [Evaluation(path, int(name[1]), name[2], *_metrics(path)) for path, name in folders if name]
        return sorted(found, key=lambda evaluation: (evaluation.iteration, evaluation.suffix, evaluation.dataset))

    def own_files(self) -> list[Path]:
        """What a run writes, without what someone put beside it; its config, by which one knows it, last."""
        names = (*FOLDERS, *FILES, f"model_{_NUMBER}.pth", self.final.name, self.final_average.name)
        for best in {"best", *(record.stem for record in self.best_records())}:
            names += (f"model_{best}.pth", f"model_{best}_{_NUMBER}.pth")
        return [path for name in (*names, "best*.json", CONFIG) for path in self.path.glob(name)]

    def remove_leftovers(self) -> None:
        """Delete the temporary files that a killed run has left, and none that an evaluator beside it is writing."""
        for place in (".*.tmp", f"{EVALUATIONS}/*/*/.*.tmp"):
            for path in self.path.glob(place):
                remove_if_free(path)

    def check_is_no_sweep(self) -> None:
        """Refuse the folder of a sweep, whose config is not that of a run.

        Raises:
            UserError: it is one.
        """
        if (self.path / SWEEP_RECORD).is_file():
            raise UserError(
                f"{self.path} is the folder of a sweep, not of a run",
                f"name a trial of it, in {self.path / 'trials'}, or another folder for a run of its own",
            )

    def check(self) -> None:
        """Refuse a folder that can't be made or written to, or in which something else is where a run writes.

        Raises:
            UserError: it is that of a sweep; nothing can be written there; a file has the name of a folder that a run
                makes, or a folder that of a file, or either is a pipe, a device or a link that leads nowhere.
        """
        folder = self.path
        there = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
        if not there.is_dir():
            message = f"there can be no output folder {folder}: {there} is {_kind_of(there)}"
            raise UserError(message, "choose another train.output_dir")
        if fault := writing_fault(there):
            raise UserError(f"there can be no output folder {folder}: {fault}", "choose another train.output_dir")
        self.check_is_no_sweep()
        check_folders(folder / name for name in FOLDERS)
        for name in (*FILES, "model_*.pth", "best*.json", CONFIG):
            for path in (folder / name, *folder.glob(name)):
                if os.path.lexists(path) and not path.is_file():
                    raise _in_the_way(path, "a file")


def checkpoint_name(iteration: int, kind: str = "model") -> str:
    """Of a checkpoint that is one of several of its kind, by default a periodic one; without its ending."""
    return f"{kind}_{iteration:07d}"


def iteration_of(checkpoint: str) -> int | None:
    """The iteration in the name of a periodic checkpoint, with or without its ending; None for other names."""
    match = _PERIODIC.fullmatch(checkpoint)
    return int(match[1]) if match else None


def read_json_lines(path: str | Path) -> list[dict]:
    """The values of a `metrics.json`, one dict per iteration, iterations ascending; of values given twice the last.

    What a crash left half-written is left out.
    """
    merged: dict[int, dict] = {}
    for text in Path(path).read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue
        if isinstance(line, dict) and type(line.get("iteration")) is int:
            merged.setdefault(line["iteration"], {}).update(line)
    return [merged[iteration] for iteration in sorted(merged)]


def number_or_none(value: Any) -> float | None:
    """A finite number, as far as floats reach, as it is, and None for all else."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number and abs(value) <= sys.float_info.max else None


def check_folders(folders: Iterable[Path]) -> None:
    """Refuse those that are there and are no folders; raises as `RunFolder.check`."""
    for path in folders:
        if os.path.lexists(path) and not path.is_dir():
            raise _in_the_way(path, "a folder")


def _metrics(folder: Path) -> tuple[dict[str, Any], str]:
    """Content and fault of an evaluation's metrics.json."""
    try:
        return dict(json.loads((folder / METRICS).read_bytes())), ""
    except FileNotFoundError:
        return {}, ""
    except (OSError, ValueError, TypeError) as error:
        return {}, f"{type(error).__name__}: {error}"


def _kind_of(path: Path) -> str:
    """What has this name, in words."""
    if path.is_dir():
        return "a folder"
    if path.is_file():
        return "a file"
    return "a pipe or a device" if path.exists() else "a link that leads nowhere"


def _in_the_way(path: Path, wanted: str) -> UserError:
    return UserError(
        f"{path} is {_kind_of(path)}, and a run makes {wanted} of that name", "move it away, or choose another folder"
    )
