"""Nothing in an output folder is lost by a start that is refused, by another run, or by an evaluation."""

import errno
import json
import os
import signal
import time
from pathlib import Path

import pytest
import torch

from tests.engine.conftest import CONFIG
from tests.engine.unruly_parts import ActingEvaluator
from xray_lazy.config import load_config
from xray_lazy.engine.output_folder.folder_ownership import prepared_run_folder
from xray_lazy.engine.run import RunOptions, run
from xray_lazy.errors import RunFailure, UserError

QUICK = ["train.max_iter=2", "~hooks.prediction_pictures", "~writers.tensorboard", "~writers.wandb"]


def start(overrides, **options):
    run(RunOptions(options.pop("config_file", CONFIG), overrides, **options))


def content_of(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def finished(output):
    folder, overrides = output
    overrides = [*overrides, *QUICK]
    start(overrides)
    return folder, overrides


def lines_of(folder):
    return [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]


@pytest.mark.parametrize(
    "fault",
    [
        "train.freeze=[nothing_of_that_name]",
        "hooks.early_stopping.patience=0",
        "train.amp.dtype=float8",
        "+writers.other={_target_: tests.engine.unruly_parts.Refuses}",
        "model.roi_heads.mask_head.conv_dims=[16,24]",
    ],
)
@pytest.mark.parametrize("resume", [False, True])
def test_a_start_that_is_refused_leaves_the_run_in_its_folder(finished, fault, resume):
    folder, overrides = finished
    if fault.startswith("model.") and not resume:
        pytest.skip("another model may start anew")
    before = content_of(folder)
    with pytest.raises(UserError):
        start([*overrides, "train.max_iter=3", fault], resume=resume, overwrite=True)
    assert content_of(folder) == before


def test_a_run_of_which_a_part_can_not_be_moved_away_is_not_overwritten(finished, monkeypatch):
    folder, overrides = finished
    before, rename = content_of(folder), Path.rename

    def held(self, target):  # as a folder that is mounted there, or another user's
        if self.name == "config.yaml":
            raise OSError(errno.EBUSY, "Device or resource busy", str(self))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", held)
    with pytest.raises(UserError, match="resource busy"):
        start([*overrides, "optimizer.lr=0.5"], overwrite=True)
    assert content_of(folder) == before


def test_what_can_not_be_deleted_of_an_overwritten_run_is_no_part_of_the_new_one(finished, monkeypatch):
    folder, overrides = finished
    delete, protected = os.unlink, {"model_best.pth", "per_category.csv"}

    def refused(path, *args, **options):
        if Path(os.fsdecode(path)).name in protected:
            raise PermissionError(errno.EPERM, "Operation not permitted", path)
        return delete(path, *args, **options)

    monkeypatch.setattr(os, "unlink", refused)
    start([*overrides, "optimizer.lr=0.5"], overwrite=True)
    (left,) = folder.glob(".deleted_*")
    assert {path.name for path in left.rglob("*") if path.is_file()} == protected
    assert "delete it yourself" in (folder / "log.txt").read_text() and len(lines_of(folder)) == 2
    monkeypatch.undo()
    start([*overrides, "optimizer.lr=0.5", "train.max_iter=3"], resume=True, overwrite=True)
    assert not any(folder.glob(".deleted_*")) and len(lines_of(folder)) == 3


def test_a_job_that_can_not_be_submitted_leaves_the_run_that_it_would_replace(finished):
    folder, overrides = finished
    before = content_of(folder)
    cfg = load_config(CONFIG, [*overrides, "optimizer.lr=0.5"])
    with pytest.raises(ZeroDivisionError), prepared_run_folder(cfg, False, True):
        assert not (folder / "model_final.pth").exists()
        raise ZeroDivisionError
    assert content_of(folder) == before
    with prepared_run_folder(cfg, False, True):
        pass
    assert load_config(folder / "config.yaml").optimizer.lr == 0.5
    start([], config_file=str(folder / "config.yaml"), resume=True)
    assert not (folder / ".overwritten").exists() and len(lines_of(folder)) == 2


ACTING = "dataloader.evaluator._target_=tests.engine.unruly_parts.ActingEvaluator"


@pytest.fixture
def acting():
    yield ActingEvaluator
    ActingEvaluator.act = None


def fail():
    raise RunFailure("the evaluator failed", "")


def stop():
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.01)


def measured(folder):
    """Losses and metrics by iteration; a resumed run puts an iteration's metrics into a line of their own."""
    found = {}
    for line in lines_of(folder):
        values = {name: value for name, value in line.items() if "/" in name or "loss" in name}
        found.setdefault(line["iteration"], {}).update(values)
    return found


@pytest.mark.parametrize("act", [fail, stop])
@pytest.mark.parametrize("iterations", [2, 4])
def test_an_evaluation_that_does_not_end_loses_nothing_and_is_done_by_the_resumed_run(output, acting, act, iterations):
    folder, overrides = output
    overrides = [*overrides, *QUICK, ACTING, "train.max_iter=4", f"train.eval_period={iterations}"]
    start([*overrides, f"train.output_dir={folder.parent}/undisturbed"])
    acting.act = act
    if act is fail:
        with pytest.raises(RunFailure, match="the evaluator failed"):
            start(overrides)
    else:
        start(overrides)
    saved = "model_final.pth" if iterations == 4 else "model_0000001.pth"
    assert (folder / "last_checkpoint").read_text() == saved
    assert not (folder / "evaluation").exists()
    acting.act = None
    start(overrides, resume=True)
    undisturbed = folder.parent / "undisturbed"
    for name in ("model_final.pth", "model_best.pth"):
        ours, theirs = (torch.load(one / name, weights_only=True)["model"] for one in (folder, undisturbed))
        assert all(torch.equal(value, theirs[key]) for key, value in ours.items())
    assert measured(folder) == measured(undisturbed)
    assert json.loads((folder / "best.json").read_text()) == json.loads((undisturbed / "best.json").read_text())
