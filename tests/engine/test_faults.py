"""What goes wrong on real machines, done for real: kills, dead readers, full disks, losses that are not finite."""

import json
import os
import random
import shutil
import subprocess
import time

import pytest
import torch

from tests.engine.conftest import CONFIG
from tests.engine.quick_processes import start_group
from tests.patience import exit_codes, wait_until
from xray_lazy.engine.run import RunOptions, run
from xray_lazy.errors import RunFailure, UserError
from xray_lazy.failure import FAILURE_FILE, read_failure

QUIET = ["~hooks.prediction_pictures", "~writers.tensorboard", "~writers.wandb", "train.eval_period=0"]
HOOKS = "tests.engine.fault_hooks"


def add_hook(name, **arguments):
    settings = ", ".join([f"_target_: {HOOKS}.{name}", *(f"{key}: {value}" for key, value in arguments.items())])
    return f"+hooks.fault={{{settings}}}"


def train(overrides, folder, **options):
    run(RunOptions(CONFIG, ["train.device=cpu", f"train.output_dir={folder}", *QUIET, *overrides], **options))


def train_and_report(overrides, folder, options):
    """In a process of its own: ends with the exit code of the tool and leaves its message in `<folder>.txt`."""
    try:
        train(overrides, folder, resume=True, **options)
    except UserError as error:
        with open(f"{folder}.txt", "w") as stream:
            stream.write(str(error))
        os._exit(error.exit_code)


def start(overrides, folder, processes=1, **options):
    folder.with_suffix(".txt").unlink(missing_ok=True)
    log = folder.with_suffix(".log")
    return start_group(train_and_report, overrides, str(folder), options, processes=processes, log=log)


def finish(overrides, folder, processes=1, **options):
    """Train to the end of the run and return the exit codes and the message of an error."""
    started = start(overrides, folder, processes, **options)
    codes, message = exit_codes(started, folder.with_suffix(".log")), folder.with_suffix(".txt")
    return codes, message.read_text() if message.exists() else ""


def weights_of(folder, name="model_final"):
    return torch.load(folder / f"{name}.pth", weights_only=True)["model"]


def assert_equal_runs(one, other):
    """The same weights, bit for bit, and the same losses at each iteration."""
    weights, others = weights_of(one), weights_of(other)
    assert weights.keys() == others.keys()
    assert all(torch.equal(value, others[name]) for name, value in weights.items())
    losses, other_losses = losses_of(one), losses_of(other)
    # a kill between a checkpoint and the line of its iteration costs the line
    assert len(other_losses) > len(losses) // 2 and sorted(set(other_losses)) == other_losses
    assert set(other_losses) <= set(losses)


def losses_of(folder):
    lines = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    return [(line["iteration"], line["total_loss"]) for line in lines]


def last_checkpoint(folder):
    path = folder / "last_checkpoint"
    return path.read_text() if path.exists() else ""


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_kills_at_random_times_change_nothing(tmp_path, kills):
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    overrides = [f"train.max_iter={6 * kills}", "train.checkpointer.period=1", "~hooks.evaluation"]
    assert finish(overrides, undisturbed) == ([0], "")
    chance, interrupted = random.Random(kills), set()
    for number in range(kills):
        before = last_checkpoint(killed)
        (process,) = start(overrides, killed)
        if number % 4:  # it trains at least one iteration further; else it may be killed while it starts
            wait_until(lambda: not process.is_alive() or last_checkpoint(killed) != before)  # noqa: B023
        time.sleep(chance.uniform(0, 0.3))
        process.kill()
        process.join()
        interrupted.add(last_checkpoint(killed))
    assert len(interrupted - {"model_final.pth"}) > kills // 4
    assert finish(overrides, killed) == ([0], "")
    assert_equal_runs(undisturbed, killed)
    assert not list(killed.glob(".*.tmp"))


@pytest.mark.slow
@pytest.mark.parametrize(("processes", "workers"), [(1, 2), (2, 0), (2, 1)])
def test_kills_at_several_iterations_change_nothing(tmp_path, processes, workers):
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    overrides = ["train.max_iter=8", "train.checkpointer.period=2", "~hooks.evaluation"]
    overrides += [f"dataloader.train.num_workers={workers}"]
    assert finish(overrides, undisturbed, processes) == ([0] * processes, "")
    for iteration in (0, 3, 6):
        kill = add_hook("KillAt", iteration=iteration)
        group = start([*overrides, kill], killed, processes, overwrite=True)
        assert exit_codes(group[-1:], killed.with_suffix(".log")) == [-9]
        for process in group:
            process.kill()
            process.join()
    assert finish(overrides, killed, processes, overwrite=True) == ([0] * processes, "")
    assert_equal_runs(undisturbed, killed)


def test_one_of_several_processes_that_is_killed_ends_the_run_with_one_message(tmp_path):
    with pytest.raises(UserError) as error:
        train([add_hook("KillAt", iteration=2), "train.checkpointer.period=1"], tmp_path / "run", num_processes=2)
    assert "process 1 ended without a word" in error.value.message and "SIGKILL" in error.value.message
    assert "memory" in error.value.fix and error.value.exit_code == 1
    assert last_checkpoint(tmp_path / "run") == "model_0000001.pth"
    told = read_failure(tmp_path / "run" / FAILURE_FILE)  # by the process that misses it
    assert told.rank == 0 and "may have been killed" in told.fix


@pytest.mark.slow
def test_a_reader_that_is_killed_ends_the_run_and_the_message_names_the_likely_cause(tmp_path):
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    # Batches that were read ahead still train, so when the death is seen depends on the machine's load.
    overrides = ["dataloader.train.num_workers=2", "train.max_iter=30", "train.checkpointer.period=2"]
    codes, message = finish([*overrides, add_hook("KillReaderAt", iteration=3)], killed)
    assert codes == [1]
    assert "a process that reads images died" in message
    assert "memory" in message and "dataloader.train.num_workers" in message and "--resume" in message
    assert "Traceback" not in killed.with_suffix(".log").read_text()
    assert last_checkpoint(killed) not in ("", "model_final.pth")
    assert finish(overrides, undisturbed) == ([0], "")
    assert finish(overrides, killed, overwrite=True) == ([0], "")
    assert_equal_runs(undisturbed, killed)


@pytest.mark.slow
def test_a_file_that_may_not_grow_leaves_the_earlier_checkpoint_to_resume_from(tmp_path):
    undisturbed, full = tmp_path / "undisturbed", tmp_path / "full"
    overrides = ["train.checkpointer.period=1", "train.max_iter=5"]
    codes, message = finish([*overrides, add_hook("FullDiskFrom", iteration=2, size=1_000_000)], full)
    assert codes == [1] and "can't save the checkpoint" in message and "model_0000002.pth" in message
    assert sorted(p.name for p in full.glob("*.pth")) == ["model_0000000.pth", "model_0000001.pth"]
    assert finish(overrides, full, overwrite=True) == ([0], "")
    assert finish(overrides, undisturbed) == ([0], "")
    assert_equal_runs(undisturbed, full)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own, and a function that sets its size in bytes; skips where it can't be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    size = "size=1m"
    if not mount or subprocess.run([mount, "-t", "tmpfs", "-o", size, "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("mounting a file system needs root")
    yield folder, lambda bytes_: subprocess.run([mount, "-o", f"remount,size={bytes_}", folder], check=True)
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_full_disk_is_one_message_and_the_run_goes_on_when_there_is_space(tmp_path, small_disk):
    disk, set_size = small_disk
    overrides = ["train.checkpointer.period=1", "train.max_iter=5"]
    undisturbed, full = tmp_path / "undisturbed", disk / "run"
    assert finish(overrides, undisturbed) == ([0], "")
    checkpoint = (undisturbed / "model_0000001.pth").stat().st_size
    set_size(int(2.5 * checkpoint))
    codes, message = finish(overrides, full)
    assert codes == [1], full.with_suffix(".log").read_text()
    assert "can't save the checkpoint" in message and "free some space" in message and "--resume" in message
    assert last_checkpoint(full) == "model_0000001.pth" and not list(full.glob(".*.tmp"))
    set_size(10 * checkpoint)
    assert finish(overrides, full)[0] == [0]
    assert_equal_runs(undisturbed, full)


def test_a_step_whose_features_are_nan_is_skipped_and_leaves_no_trace_in_the_weights(tmp_path):
    folder = tmp_path / "run"
    overrides = ["train.max_skipped_steps=2", "train.checkpointer.period=1", add_hook("NotFiniteAt", iteration=1)]
    train(overrides, folder)
    before, after = weights_of(folder, "model_0000000"), weights_of(folder, "model_0000001")
    assert any("running_var" in name for name in before)
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert all(torch.isfinite(value).all() for value in weights_of(folder).values())
    assert "skipped iteration 1" in (folder / "log.txt").read_text()
    skipped, after = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()][1:3]
    assert skipped["skipped_steps"] == 1 and after["total_loss"] > 0
    assert "loss nan" not in (folder / "log.txt").read_text()


def test_without_leave_to_skip_it_ends_the_run_and_names_the_images(tmp_path):
    with pytest.raises(UserError) as error:
        train([add_hook("NotFiniteAt", iteration=1)], tmp_path / "run")
    assert "not finite at iteration 1" in error.value.message and "bag_" in error.value.message
    assert "loss_rpn_cls" in error.value.message and error.value.exit_code == 1
    told = read_failure(tmp_path / "run" / FAILURE_FILE)
    assert (told.message, told.fix, told.exit_code) == (error.value.message, error.value.fix, 1)
    train([], tmp_path / "run", resume=True, overwrite=True)
    assert not (tmp_path / "run" / FAILURE_FILE).exists()


def test_a_run_that_is_asked_to_finish_evaluates_and_leaves_its_final_weights(tmp_path):
    folder = tmp_path / "run"
    train(["train.max_iter=50", add_hook("FinishAt", iteration=2)], folder)
    assert [iteration for iteration, _ in losses_of(folder)] == [0, 1, 2]
    assert last_checkpoint(folder) == "model_final.pth"
    assert (folder / "evaluation" / "tiny" / "iter_2" / "metrics.json").is_file()
    assert "it is good enough" in (folder / "log.txt").read_text()


@pytest.mark.parametrize(
    "overrides",
    [
        [add_hook("WantTooMuchAt", iteration=1)],
        ["train.eval_period=1", f"dataloader.evaluator._target_={HOOKS}.EvaluatorWithoutMemory"],
    ],
    ids=["step", "evaluation"],
)
def test_memory_that_runs_out_in_a_step_or_an_evaluation_is_one_message(overrides, tmp_path):
    with pytest.raises(RunFailure, match="out of memory") as failure:
        train(["train.max_iter=2", *overrides], tmp_path / "run")
    assert "tools/find_batch_size.py" in failure.value.fix


def test_a_folder_that_can_not_be_used_any_more_is_a_failure_of_the_run_and_no_fault_of_its_command(tmp_path):
    folder = tmp_path / "run"
    spoil = add_hook("FileForFolderAt", iteration=1, folder=folder / "evaluation")
    with pytest.raises(RunFailure, match=r"can't use .*evaluation") as failed:
        train(["train.max_iter=2", "train.eval_period=2", spoil], folder)
    assert failed.value.exit_code == 1 and "--resume" in failed.value.fix
