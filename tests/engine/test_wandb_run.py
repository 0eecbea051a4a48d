"""The real trainer with a W&B server: one run, whatever happens to training or server."""

import collections
import json

from tests.engine.conftest import CONFIG
from tests.engine.quick_processes import start_group
from xray_lazy.engine.run import RunOptions, run

ONLINE = ["train.device=cpu", "train.max_iter=8", "train.checkpointer.period=2", "writers.wandb.mode=online"]
# what W&B has been given in the last tenth of a second may not be on disk yet; a busy machine takes longer
KILL = "+hooks.fault={_target_: tests.engine.fault_hooks.KillAt, iteration: 5, wait: 2.0}"


def train(overrides, folder):
    run(RunOptions(CONFIG, [f"train.output_dir={folder}", *ONLINE, *overrides], resume=True, overwrite=True))


def start(overrides, folder, processes):
    return start_group(train, overrides, str(folder), processes=processes, log=folder.with_suffix(".log"))


def values_at(service):
    """How often each value of an iteration is in the run's history."""
    axes = {"iteration", "epoch", "images_seen"}
    rows = service.only_run().rows
    return collections.Counter((row["iteration"], name) for row in rows for name in row.keys() - axes)


def iterations_of(folder):
    return [json.loads(line)["iteration"] for line in (folder / "metrics.json").read_text().splitlines()]


def test_a_killed_training_of_two_processes_is_one_run_with_each_value_once(wandb_service, tmp_path):
    folder = tmp_path / "run"
    killed = start([KILL], folder, processes=2)
    killed[-1].join(timeout=200)
    for process in killed:
        process.kill()
        process.join()
    group = start([], folder, processes=2)
    for process in group:
        process.join(timeout=200)
    assert [process.exitcode for process in group] == [0, 0], folder.with_suffix(".log").read_text()
    found = values_at(wandb_service)
    assert set(found.values()) == {1}
    names = {name for _, name in found}
    (loss,) = (name for name in names if name.endswith("total_loss") and "raw" not in name)
    assert {iteration for iteration, name in found if name == loss} == set(range(8))
    assert wandb_service.only_run().state == "finished"


def test_a_server_that_hangs_costs_training_no_local_record(wandb_service, tmp_path):
    folder = tmp_path / "run"
    (process,) = start([], folder, processes=1)
    wandb_service.wait_for(lambda: wandb_service.runs, seconds=120)
    wandb_service.hang()
    process.join(timeout=200)
    assert process.exitcode == 0
    assert sorted(set(iterations_of(folder))) == list(range(8))
    assert (folder / "log.txt").read_text().count("tools/sync.py") == 1


def test_a_training_that_is_stopped_to_be_resumed_is_no_finished_run(wandb_service, tmp_path):
    folder = tmp_path / "run"
    train(["+hooks.stop={_target_: tests.engine.hooks_for_tests.StopAt, iteration: 3}"], folder)
    assert wandb_service.only_run().state == "preempted"
    train([], folder)
    assert wandb_service.only_run().state == "finished"
    assert set(values_at(wandb_service).values()) == {1}


def test_a_training_that_is_killed_before_its_first_checkpoint_goes_on_in_its_run(wandb_service, tmp_path):
    folder = tmp_path / "run"
    (killed,) = start(["train.checkpointer.period=8", KILL], folder, processes=1)
    killed.join(timeout=200)
    assert killed.exitcode not in (0, None) and not (folder / "last_checkpoint").exists()
    train([], folder)
    assert set(values_at(wandb_service).values()) == {1}
    assert wandb_service.only_run().state == "finished"
