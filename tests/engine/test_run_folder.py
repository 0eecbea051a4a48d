"""The output folder: it stays as it is until a new run can start, and has one run at a time."""

import json
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from omegaconf import OmegaConf

from tests.engine.conftest import CONFIG
from xray_lazy.config import apply_overrides, load_config, save_config
from xray_lazy.engine.checkpoint import Checkpointer
from xray_lazy.engine.output_folder.claims import Claims
from xray_lazy.engine.output_folder.folder_ownership import TRAINING, check_claim, check_run_folder, claimed_run_folder
from xray_lazy.engine.run import RunOptions, run
from xray_lazy.errors import RunFailure, UserError
from xray_lazy.report.write import write_report
from xray_lazy.run_folder import RunFolder

QUICK = ["train.max_iter=1", "~hooks.evaluation", "~hooks.report", "~hooks.prediction_pictures"]


def start(overrides, **options):
    run(RunOptions(CONFIG, overrides, **options))


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def trained(tmp_path_factory, with_tiny_set):
    folder = tmp_path_factory.mktemp("runs") / "run"
    overrides = [f"train.output_dir={folder}", "train.device=cpu", *QUICK]
    start(overrides)
    return folder, overrides


FAULTS = {
    "of a hook": ["++hooks.best_checkpoint.keep=0"],
    "of what a hook is told": ["hooks.evaluation_media.chosen=[absent.png]"],
    "of two hooks together": ["hooks.other=${hooks.best_checkpoint}"],
    "of a writer": ["writers.wandb.mode=sometimes"],
    "of the optimizer": ["optimizer.lr=-1"],
    "of frozen parts": ["train.freeze=[absent]"],
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_run_that_cannot_start_leaves_the_old_one_as_it_was(trained, fault):
    folder, overrides = trained
    before = contents(folder)
    with pytest.raises((UserError, ValueError)):
        start([*overrides, *fault], overwrite=True)
    assert contents(folder) == before


IN_THE_WAY = {
    "log.txt": Path.mkdir,
    "log.txt.rank1": os.mkfifo,
    "config.yaml": os.mkfifo,
    "run.json": Path.mkdir,
    "metrics.json": os.mkfifo,
    "last_checkpoint": Path.mkdir,
    "model_final.pth": Path.mkdir,
    "model_0000007.pth": os.mkfifo,
    "best.json": Path.mkdir,
    "report.html": lambda path: path.symlink_to(path),
    "evaluation": Path.touch,
    "visualizations": os.mkfifo,
    "tensorboard": lambda path: path.symlink_to("nowhere"),
}


@pytest.mark.parametrize("name", IN_THE_WAY)
def test_what_stands_where_a_run_writes_is_refused(tmp_path, name):
    RunFolder(tmp_path / "new" / "folder").check()
    IN_THE_WAY[name](tmp_path / name)
    with pytest.raises(UserError, match=f"{name} is a .*, and a run makes a "):
        RunFolder(tmp_path).check()


def test_folders_and_links_to_files_of_a_run_are_no_hindrance(trained, tmp_path):
    (tmp_path / "run").symlink_to(trained[0])
    RunFolder(tmp_path / "run").check()
    (tmp_path / "other").mkdir()
    for path in trained[0].iterdir():
        (tmp_path / "other" / path.name).symlink_to(path)
    RunFolder(tmp_path / "other").check()


def test_training_and_evaluation_write_nothing_where_a_name_is_taken(trained, tmp_path):
    weights = f"train.init_checkpoint={trained[0] / 'model_final.pth'}"
    overrides = [f"train.output_dir={tmp_path}", "train.device=cpu", weights]
    (tmp_path / "evaluation").touch()
    for options in ({}, {"dry_run": True}, {"overwrite": True}, {"eval_only": True}):
        with pytest.raises(UserError, match="evaluation is a file"):
            start(overrides, **options)
    (tmp_path / "evaluation").unlink()
    (tmp_path / "evaluation").mkdir()
    (tmp_path / "evaluation" / "tiny").touch()
    for options in ({}, {"eval_only": True}):
        with pytest.raises(UserError, match="evaluation/tiny is a file"):
            start(overrides, **options)
    assert [path.name for path in tmp_path.rglob("*")] == ["evaluation", "tiny"]


@pytest.fixture
def copied(trained, tmp_path):
    """A run's folder of its own, and what starts that run again there."""
    folder = shutil.copytree(trained[0], tmp_path / "run")
    config = folder / "config.yaml"
    config.write_text(config.read_text().replace(str(trained[0]), str(folder)))
    return folder, [f"train.output_dir={folder}", *trained[1][1:]]


LOSSES = {"its config": ["config.yaml"], "the name of the last": ["last_checkpoint"]}
LOSSES["both"] = ["config.yaml", "last_checkpoint"]


@pytest.mark.parametrize("lost", LOSSES.values(), ids=LOSSES)
def test_checkpoints_are_not_written_over_where_a_folder_has_lost_other_files(copied, lost):
    folder, overrides = copied
    for name in lost:
        (folder / name).unlink()
    before = contents(folder)
    with pytest.raises(UserError, match="holds checkpoints of") as refusal:
        start(overrides)
    assert "--overwrite deletes that run" in refusal.value.fix
    assert contents(folder) == before


@pytest.mark.parametrize("left", [None, b"", b"\xff\x00", b"model_0000099.pth"], ids=str)
def test_a_run_without_the_name_of_its_last_checkpoint_is_resumed(copied, left):
    folder, overrides = copied
    (folder / "last_checkpoint").unlink()
    if left is not None:
        (folder / "last_checkpoint").write_bytes(left)
    before = contents(folder)
    start(overrides, resume=True)
    assert contents(folder) == before, "all iterations were done"


@pytest.mark.parametrize("relative", [False, True])
def test_a_folder_that_was_moved_is_resumed_where_it_lies_now(trained, tmp_path, monkeypatch, relative):
    monkeypatch.chdir(tmp_path)
    folder = shutil.copytree(trained[0], tmp_path / "moved")
    place = f"train.output_dir={'moved' if relative else folder}"
    cfg = apply_overrides(load_config(folder / "config.yaml"), [place])
    check_run_folder(cfg, resume=True, overwrite=False)
    before = contents(folder)
    run(RunOptions(str(folder / "config.yaml"), [place], resume=True))
    assert contents(folder) == before, "all iterations were done"
    with pytest.raises(UserError, match="another config") as refused:
        check_run_folder(apply_overrides(cfg, ["train.seed=5"]), resume=True, overwrite=False)
    assert "output_dir" not in refused.value.message


def without_key(folder, key):
    config = load_config(folder / "config.yaml")
    group, _, name = key.rpartition(".")
    del OmegaConf.select(config, group)[name]
    save_config(config, folder / "config.yaml")


def test_a_run_from_before_a_key_had_a_default_is_resumed(copied, caplog):
    folder, overrides = copied
    without_key(folder, "train.checkpoint_classes")
    caplog.set_level("INFO")
    check_run_folder(apply_overrides(load_config(CONFIG), overrides), resume=True, overwrite=False)
    assert "train.checkpoint_classes" in caplog.text


def test_a_recorded_reference_that_leads_nowhere_is_a_difference_and_no_traceback(copied):
    folder, overrides = copied
    with open(folder / "config.yaml", "a") as config:
        config.write("leads_nowhere: ${nothing.there}\n")
    with pytest.raises(UserError, match=r"leads_nowhere: .*removed"):
        check_run_folder(apply_overrides(load_config(CONFIG), overrides), resume=True, overwrite=False)


def test_where_only_keys_are_new_resuming_is_proposed(copied):
    folder, overrides = copied
    without_key(folder, "train.checkpoint_classes")
    cfg = apply_overrides(load_config(CONFIG), overrides)
    with pytest.raises(UserError) as refused:
        check_run_folder(cfg, resume=False, overwrite=False)
    assert "train.checkpoint_classes: added" in refused.value.message and "--resume goes on" in refused.value.fix


@pytest.mark.parametrize("change", ["train.max_iter=2", "~train.seed"])
def test_a_changed_or_removed_key_is_refused_beside_a_new_one(copied, change):
    folder, overrides = copied
    without_key(folder, "train.checkpoint_classes")
    with pytest.raises(UserError, match="another config"):
        check_run_folder(apply_overrides(load_config(CONFIG), [*overrides, change]), resume=True, overwrite=False)


DAMAGED = {
    "a list": "[]",
    "no object of data sets": '{"datasets": []}',
    "other": '{"datasets": {"train": null}}',
    "cut": '{"a',
}


@pytest.mark.parametrize("text", DAMAGED.values(), ids=DAMAGED)
def test_a_run_whose_record_is_damaged_is_not_resumed_and_stays_as_it_was(copied, text):
    folder, overrides = copied
    (folder / "run.json").write_text(text)
    before = contents(folder)
    with pytest.raises(UserError, match=r"run.json is not a run record"):
        start([*overrides, "train.max_iter=2"], resume=True, overwrite=True)
    assert contents(folder) == before


def test_overwriting_deletes_a_run_without_its_config(copied):
    folder, overrides = copied
    (folder / "config.yaml").unlink()
    (folder / "model_0000007.pth").write_bytes(b"of a longer run")
    start(overrides, overwrite=True)
    assert not (folder / "model_0000007.pth").exists() and (folder / "config.yaml").is_file()


def test_a_config_that_does_not_fit_the_checkpoint_leaves_the_run_as_it_was(trained):
    folder, overrides = trained
    before = contents(folder)
    wider = ["train.max_iter=2", "model.roi_heads.box_head.fc_dims=[24]"]
    with pytest.raises(UserError, match="none of the checkpoints"):
        start([*overrides, *wider], resume=True, overwrite=True)
    assert contents(folder) == before


def test_overwriting_does_not_delete_what_the_new_run_starts_from(trained):
    folder, overrides = trained
    before = contents(folder)
    for weights in (folder / "model_final.pth", folder / "../run/model_final.pth"):
        with pytest.raises(UserError, match="belongs to the run that --overwrite deletes"):
            start([*overrides, f"train.init_checkpoint={weights}"], overwrite=True, dry_run=True)
    assert contents(folder) == before


def test_a_start_that_fails_leaves_no_new_folder_behind(tmp_path):
    folder = tmp_path / "runs" / "new"
    with pytest.raises(UserError):
        start([f"train.output_dir={folder}", "train.device=cpu", "train.freeze=[absent]"])
    assert not (tmp_path / "runs").exists()


def test_a_log_begins_with_what_was_said_before_the_folder_was_opened(trained):
    assert "no train.init_checkpoint: training starts from scratch" in (trained[0] / "log.txt").read_text()


@pytest.mark.parametrize("options", [{"overwrite": True}, {"resume": True}, {"resume": True, "overwrite": True}])
def test_a_folder_where_a_run_is_at_work_is_refused(trained, options):
    folder, overrides = trained
    with claimed_run_folder(folder):
        before = contents(folder)
        with pytest.raises(UserError, match="another run is at work"):
            start(overrides, **options)
        assert contents(folder) == before
    assert not list(folder.glob("*.claim*"))


@pytest.mark.parametrize("name", ["publication", "model_0000001"])
def test_a_run_beside_which_an_evaluator_is_at_work_is_not_overwritten(trained, name):
    folder, overrides = trained
    (folder / "evaluator").mkdir()
    claim = Claims(folder / "evaluator").take(name)
    before = contents(folder)
    with pytest.raises(UserError, match="an evaluator is at work in"):
        start(overrides, overwrite=True, dry_run=True)
    assert contents(folder) == before
    start([*overrides, "train.max_iter=9"], resume=True, overwrite=True, dry_run=True)
    claim.release()
    (folder / "evaluator").rmdir()
    start(overrides, overwrite=True, dry_run=True)


def test_of_two_that_start_together_one_is_refused(tmp_path):
    with claimed_run_folder(tmp_path), pytest.raises(UserError, match="another run is at work"):
        claimed_run_folder(tmp_path).__enter__()


def test_a_folder_that_is_deleted_whole_is_claimed_again_by_the_next_checkpoint(tmp_path):
    folder = tmp_path / "run"
    with claimed_run_folder(folder) as claim:
        shutil.rmtree(folder)
        check_claim(claim)
        with pytest.raises(UserError, match="another run is at work"):
            claimed_run_folder(folder).__enter__()
    assert not folder.exists()


def test_a_run_ends_whose_folder_was_deleted_and_is_another_ones_now(tmp_path):
    folder = tmp_path / "run"
    script = (
        "import sys; from xray_lazy.engine.output_folder.claims import Claims; from pathlib import Path;"
        "claim = Claims(Path(sys.argv[1])).take('training'); print(); input()"
    )
    with claimed_run_folder(folder) as claim:
        checkpointer = Checkpointer(torch.nn.Linear(1, 1), str(folder))
        checkpointer.check_folder = partial(check_claim, claim)
        shutil.rmtree(folder)
        folder.mkdir()
        command = [sys.executable, "-c", script, str(folder)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
            other.stdout.readline()
            before = contents(folder)
            with pytest.raises(RunFailure, match=r"another run has begun in .*, which was deleted"):
                checkpointer.save("model_0000001")
            assert contents(folder) == before
            other.stdin.close()
    assert Claims(folder).owner(TRAINING)["pid"] == other.pid


def test_a_training_saves_nothing_in_a_folder_that_it_has_lost(tmp_path, with_tiny_set):
    folder = tmp_path / "run"
    lose = "+hooks.lose={_target_: tests.engine.hooks_for_tests.LoseFolderAt, iteration: 0}"
    with pytest.raises(RunFailure, match="another run has begun in"):
        start([f"train.output_dir={folder}", "train.device=cpu", *QUICK, lose])
    assert json.loads((folder / "training.claim1").read_text()) == {"machine": "other"}
    assert not list(folder.glob("*.pth")) and not (folder / "config.yaml").exists()


def test_what_a_killed_run_of_this_machine_left_stops_nobody(tmp_path):
    script = (
        "import os, signal, sys; from xray_lazy.engine.output_folder.claims import Claims; from pathlib import Path;"
        "Claims(Path(sys.argv[1])).take('training'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    assert list(tmp_path.glob("*.claim*"))
    with claimed_run_folder(tmp_path, stale_seconds=600):
        pass
    assert not list(tmp_path.iterdir())


def claimed_elsewhere(folder, **facts):
    """A claim as a process of another machine has left it."""
    claim = Claims(folder).take(TRAINING)
    claim._released.set()
    path = next(folder.glob("*.claim*"))
    path.write_text(json.dumps({**json.loads(path.read_text()), "machine": "other", "host": "node7", **facts}))
    return path


def test_the_folder_of_a_sweep_is_not_taken_for_a_runs(tmp_path):
    folder = tmp_path / "sweep"
    folder.mkdir()
    save_config(load_config(CONFIG), folder / "config.yaml")
    (folder / "sweep.yaml").write_text("name: one\n")
    before = (folder / "config.yaml").read_bytes()
    for flags in ({}, {"overwrite": True}, {"resume": True}):
        with pytest.raises(UserError, match="is the folder of a sweep, not of a run"):
            start([f"train.output_dir={folder}"], **flags)
    with pytest.raises(UserError, match="is the folder of a sweep"):
        write_report([folder])
    assert (folder / "config.yaml").read_bytes() == before


def test_a_silent_run_of_another_machine_is_waited_for_and_given_up(tmp_path):
    claimed_elsewhere(tmp_path)
    with claimed_run_folder(tmp_path, stale_seconds=0.2):
        assert Claims(tmp_path).owner(TRAINING)["host"] != "node7"


def test_a_run_of_another_machine_that_gives_signs_of_life_is_respected(tmp_path, monkeypatch):
    path = claimed_elsewhere(tmp_path)
    ticks = iter(range(10**9 + 1, 10**9 + 100))

    def wait(seconds):
        os.utime(path, (next(ticks), next(ticks)))

    # in that module alone: threads of earlier tests sleep, too
    monkeypatch.setattr("xray_lazy.engine.output_folder.folder_ownership.time", SimpleNamespace(sleep=wait))
    with pytest.raises(UserError, match="on node7"), claimed_run_folder(tmp_path, stale_seconds=600):
        pass


def test_a_requeued_job_does_not_wait_for_its_own_earlier_start_on_another_node(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "41")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    claimed_elsewhere(tmp_path, slurm_job=["41", 0])
    with claimed_run_folder(tmp_path, stale_seconds=600):
        pass
