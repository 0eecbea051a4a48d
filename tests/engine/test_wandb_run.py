"""The real trainer with a W&B server: one run, whatever happens to training or server."""

import collections
import json
from pathlib import Path

import pytest

from tests.engine.conftest import CONFIG
from tests.engine.quick_processes import start_group
from tests.patience import PATIENCE, exit_codes
from xray_lazy.engine.run import RunOptions, run
from xray_lazy.tracking.wandb_files import find_parts

pytestmark = pytest.mark.slow

ONLINE = ["train.device=cpu", "train.max_iter=8", "train.checkpointer.period=2", "writers.wandb.mode=online"]
PATIENT = f"writers.wandb.timeout={PATIENCE:g}"


def train(overrides, folder):
    run(RunOptions(CONFIG, [f"train.output_dir={folder}", *ONLINE, *overrides], resume=True, overwrite=True))


def start(overrides, folder, processes):
    return start_group(train, overrides, str(folder), processes=processes, log=folder.with_suffix(".log"))


def waiting(file):
    """An override by which training waits before iteration 5 until there is a file."""
    return f"+hooks.fault={{_target_: tests.engine.fault_hooks.WaitAt, iteration: 5, file: {file}}}"


def kill_when_recorded(service, group, folder):
    """Kill training before iteration 5; what W&B has been given in the last moment may not be on the disk yet.

    W&B's service process outlives it by a moment, in which it still sends.
    """
    try:
        service.wait_for(lambda: 4 in recorded_iterations(folder, service), seconds=PATIENCE)
    finally:
        children = [child for process in group for child in children_of(process.pid)]
        for process in group:
            process.kill()
            process.join()
    service.wait_for(lambda: not any(map(is_running, children)), seconds=PATIENCE)


def children_of(pid):
    return [int(c) for file in Path(f"/proc/{pid}/task").glob("*/children") for c in file.read_text().split()]


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def recorded_iterations(folder, service):
    parts = [part for run_id in service.runs for part in find_parts(folder, run_id)]
    return {row.values.get("iteration") for part in parts for row in part.rows()}


def values_at(service):
    """How often each value of an iteration is in the run's history."""
    axes = {"iteration", "epoch", "images_seen"}
    rows = service.only_run().rows
    return collections.Counter((row["iteration"], name) for row in rows for name in row.keys() - axes)


def iterations_of(folder):
    return [json.loads(line)["iteration"] for line in (folder / "metrics.json").read_text().splitlines()]


def test_a_killed_training_of_two_processes_is_one_run_with_each_value_once(wandb_service, tmp_path):
    folder = tmp_path / "run"
    killed = start([PATIENT, waiting(tmp_path / "never")], folder, processes=2)
    kill_when_recorded(wandb_service, killed, folder)
    group = start([PATIENT], folder, processes=2)
    log = folder.with_suffix(".log")
    assert exit_codes(group, log) == [0, 0], log.read_text()
    found = values_at(wandb_service)
    assert set(found.values()) == {1}
    names = {name for _, name in found}
    (loss,) = (name for name in names if name.endswith("total_loss") and "raw" not in name)
    assert {iteration for iteration, name in found if name == loss} == set(range(8))
    assert wandb_service.only_run().state == "finished"


def test_a_server_that_hangs_costs_training_no_local_record(wandb_service, tmp_path):
    folder = tmp_path / "run"
    (process,) = start([waiting(tmp_path / "goes_on")], folder, processes=1)
    try:
        wandb_service.wait_for(lambda: wandb_service.runs, seconds=PATIENCE)
        wandb_service.hang()
    finally:
        (tmp_path / "goes_on").touch()
    assert exit_codes([process], folder.with_suffix(".log")) == [0]
    assert sorted(set(iterations_of(folder))) == list(range(8))
    assert (folder / "log.txt").read_text().count("tools/sync.py") == 1


def test_a_training_that_is_stopped_to_be_resumed_is_no_finished_run(wandb_service, tmp_path):
    folder = tmp_path / "run"
    train(["+hooks.stop={_target_: tests.engine.hooks_for_tests.StopAt, iteration: 3}", PATIENT], folder)
    assert wandb_service.only_run().state == "preempted"
    train([PATIENT], folder)
    assert wandb_service.only_run().state == "finished"
    assert set(values_at(wandb_service).values()) == {1}


def test_a_training_that_is_killed_before_its_first_checkpoint_goes_on_in_its_run(wandb_service, tmp_path):
    folder = tmp_path / "run"
    late = ["train.checkpointer.period=8", "train.eval_period=8"]  # weights are saved before an evaluation, too
    killed = start([*late, PATIENT, waiting(tmp_path / "never")], folder, processes=1)
    kill_when_recorded(wandb_service, killed, folder)
    assert not (folder / "last_checkpoint").exists()
    train([PATIENT], folder)
    assert set(values_at(wandb_service).values()) == {1}
    assert wandb_service.only_run().state == "finished"
