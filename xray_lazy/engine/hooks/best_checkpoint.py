"""Keep the weights with the best metric."""

import difflib
import json
import logging
import math
import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from detectron2.engine.train_loop import HookBase
from detectron2.utils import comm

from xray_lazy.engine.metric_names import check_name, key_of, possible_names, warn_of_no_number, warn_of_worst
from xray_lazy.errors import UserError
from xray_lazy.modeling.step_numbers import latest_with
from xray_lazy.run_folder import BEST, RunFolder, checkpoint_name
from xray_lazy.utils.atomic_file import write_json

SIGNS = {"max": 1, "min": -1}

logger = logging.getLogger(__name__)


class BestCheckpoint(HookBase):
    """After an evaluation that was better than all before, write `<file_name>.pth` with the weights.

    With `keep` above 1, that many stay, each as `<file_name>_<iteration>.pth`. `best.json` (`<file_name>` without
    `model_`) has metric, value, iteration and file of each and the folder of the evaluation that chose it; so have the
    files. By a metric of averaged weights, such as `bbox_EMA/AP`, these weights are kept.

    Args:
        metric: as it is in the event storage, e.g. `segm/AP`; where averaged weights alone are evaluated, theirs.
        mode: "max" or "min".
        keep: how many of the best stay.
        file_name: without its ending; each further hook, for another metric, needs one of its own.

    What was the best is in the checkpoints, so a resumed run goes on comparing. A training beside which checkpoints are
    evaluated compares its own last evaluation with what that has kept.
    """

    judges_metrics = True  # of checkpoints that are evaluated beside training, too

    def __init__(self, metric: str, mode: str = "max", keep: int = 1, file_name: str = BEST):
        if mode not in SIGNS or keep < 1:
            message = f"hooks.best_checkpoint has mode {mode!r} and keep {keep}"
            raise UserError(message, "mode may be max or min, keep 1 or more")
        warn_of_worst(metric, mode, "hooks.best_checkpoint")
        self.metric, self.mode, self.keep, self.file_name = metric, mode, keep, file_name
        self.kept: list[dict[str, Any]] = []  # the best one first
        self._warned = False

    def check(self) -> None:
        """Called before anything is written."""
        others = [hook for hook in self.trainer.named_hooks.values() if isinstance(hook, BestCheckpoint)]
        if sum(hook.file_name == self.file_name for hook in others) > 1:
            raise UserError(f"two hooks write {self.file_name}.pth", "give one of them another file_name")
        check_name(self.metric, f"{key_of(self)}.metric", self.trainer)

    def before_train(self) -> None:
        self._folder = RunFolder(self.trainer.checkpointer.save_dir)

    def after_step(self) -> None:
        if not comm.is_main_process():
            return
        name, value = self._measured()
        if not math.isfinite(value):
            return
        new = {"metric": name, "value": value, "iteration": self.trainer.iter, "evaluation": self._evaluation(name)}
        others = [entry for entry in self._kept_so_far(name) if entry["iteration"] != new["iteration"]]
        # of equal ones the earliest goes first
        ranking = sorted([*others, new], key=lambda entry: -SIGNS[self.mode] * entry["value"])
        if new in ranking[: self.keep]:
            self._save(ranking[: self.keep], new)

    def _kept_so_far(self, metric: str) -> list[dict[str, Any]]:
        record_file = self._folder.best_record(self.file_name)
        if self.kept or not self._folder.evaluator.is_dir() or not record_file.is_file():
            return self.kept
        record = json.loads(record_file.read_bytes())
        entries = [record, *record["others"]]
        names = ("metric", "value", "iteration", "evaluation")
        return [{name: entry[name] for name in names} for entry in entries if entry["metric"] == metric]

    def _measured(self) -> tuple[str, float]:
        """The metric's full name and its value in this step; NaN where it was not measured."""
        trainer = self.trainer
        names = possible_names(self.metric, trainer.evaluated_models)
        latest = latest_with(trainer.storage, names)
        name = next((name for name in names if name in latest), None)
        if name is None:
            self._warn_once(latest)
            return self.metric, math.nan
        value, iteration = latest[name]
        if iteration != trainer.iter:
            return name, math.nan
        if not math.isfinite(value) and not self.kept and not self._warned:
            self._warned = True
            numbers = {one: float(of) for one, (of, _) in latest.items()}
            warn_of_no_number(name, key_of(self), f"no {self.file_name}.pth is written for it", numbers)
        return name, float(value)

    def _warn_once(self, logged: Iterable[str]) -> None:
        """After an evaluation without the metric."""
        if not self._warned and any(name.endswith("/AP") for name in logged):
            self._warned = True
            near = ", ".join(difflib.get_close_matches(self.metric, logged, n=5, cutoff=0))
            logger.warning("no %s.pth as yet: there is no metric %s, but %s", self.file_name, self.metric, near)

    def _evaluation(self, name: str) -> str | None:
        """The folder of the evaluation relative to the output folder; None for a metric that is of no evaluation."""
        if "/" not in name:
            return None
        dataset = self.trainer.evaluate.dataset_of(name)
        path = self._folder.evaluation(dataset, self.trainer.iter, self._suffix(name))
        return str(path.relative_to(self._folder.path)) if path.is_dir() else None

    def _suffix(self, name: str) -> str:
        """Of the evaluated model that a metric is of."""
        suffixes = [suffix for suffix in self.trainer.evaluated_models if f"{suffix}/" in name]
        return max(suffixes, key=len, default="")

    def _save(self, ranking: list[dict[str, Any]], new: dict[str, Any]) -> None:
        """Write the new weights, then the record, then delete what it no longer names."""
        model = self.trainer.evaluated_models.get(self._suffix(new["metric"]), self.trainer.bare_model)
        best, *others = ranking
        name = self._numbered(new) if self.keep > 1 else self.file_name
        self.trainer.checkpointer.write(name, {"model": model.state_dict(), **new})
        if self.keep > 1:
            _add_name(self._file(best), self._folder.checkpoint(self.file_name))
        # one of these can be missing where the run was resumed from before another took its place
        others = [entry for entry in others if self._file(entry).is_file()]
        self.kept = [best, *others]
        others = [{**entry, "file": self._file(entry).name} for entry in others]
        record = {"mode": self.mode, **best, "file": self._folder.checkpoint(self.file_name).name, "others": others}
        write_json(self._folder.best_record(self.file_name), record, indent=2)
        self._delete_others()
        rank = "the best" if best is new else f"among the best {self.keep}"
        logger.info("%s of iteration %d is %s so far: %.3f", new["metric"], new["iteration"], rank, new["value"])

    def _numbered(self, entry: dict[str, Any]) -> str:
        return checkpoint_name(entry["iteration"], self.file_name)

    def _file(self, entry: dict[str, Any]) -> Path:
        return self._folder.checkpoint(self._numbered(entry))

    def _delete_others(self) -> None:
        stay = {self._numbered(entry) for entry in self.kept} if self.keep > 1 else set()
        for path in self._folder.path.glob(f"{self.file_name}_*.pth"):
            if re.fullmatch(r"\d{7}", path.stem.removeprefix(f"{self.file_name}_")) and path.stem not in stay:
                path.unlink()

    def state_dict(self) -> dict[str, Any]:
        return {"metric": self.metric, "file_name": self.file_name, "kept": self.kept}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if state_dict.get("metric") != self.metric:
            logger.warning("%s.pth was chosen by another metric; from here on by %s", self.file_name, self.metric)
        elif (before := state_dict.get("file_name", self.file_name)) != self.file_name:  # older versions have none
            logger.warning("%s.pth stays as it is; from here on the best is %s.pth", before, self.file_name)
        else:
            self.kept = state_dict["kept"]


def _add_name(path: Path, name: Path) -> None:
    """Let `name` be a second name of the file `path`, or a copy of it where the disk has no such names."""
    if not path.is_file() or (name.exists() and name.samefile(path)):
        return
    temporary = name.with_name(f".{name.name}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        os.link(path, temporary)
    except OSError:
        shutil.copyfile(path, temporary)
    os.replace(temporary, name)
