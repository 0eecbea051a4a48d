"""tools/lazy_train.py as a person uses it: exit codes, messages, kills, a full disk."""

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.engine.quick_processes import run_tool, start_tool
from tests.patience import exit_codes, wait_until

ROOT = Path(__file__).parent.parent
TOOL = ROOT / "tools" / "lazy_train.py"
CONFIG = ROOT / "tests" / "engine" / "tiny.py"


def command(*arguments):
    return [sys.executable, str(TOOL), *map(str, arguments)]


def run(environment, *arguments, **options):
    return run_tool(TOOL, *arguments, environment=environment, **options)


def assert_user_error(answer, *words):
    assert answer.returncode == 2, answer.stderr
    assert "Traceback" not in answer.stderr + answer.stdout
    for word in words:
        assert word in answer.stderr


def test_flags_and_overrides_stand_in_any_order(environment, tmp_path):
    folder = tmp_path / "run"
    arguments = ("train.max_iter=1", "--num-processes", 1, f"train.output_dir={folder}", "--config-file", CONFIG)
    answer = run(environment, *arguments, "hooks.best_checkpoint.metric=bbox/AP")
    assert answer.returncode == 0, answer.stderr
    record = json.loads((folder / "run.json").read_text())
    assert record["overrides"] == list(arguments[:1] + arguments[3:4]) + ["hooks.best_checkpoint.metric=bbox/AP"]
    assert "lazy_train.py" in record["command"]


@pytest.mark.slow
def test_a_run_that_is_killed_at_any_time_resumes_and_ends_as_an_undisturbed_one(environment, tmp_path):
    long = ("--config-file", CONFIG, "train.max_iter=30", "train.eval_period=0", "train.checkpointer.period=3")
    long += ("train.device=cpu", "~hooks.prediction_pictures")
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    assert run(environment, *long, f"train.output_dir={undisturbed}").returncode == 0
    pause = random.Random(0)
    for _ in range(3):
        process = subprocess.Popen(
            command(*long, f"train.output_dir={killed}", "--resume"),
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        before = set(killed.glob("model_0*.pth"))
        wait_until(lambda: process.poll() is not None or not set(killed.glob("model_*.pth")) <= before)  # noqa: B023
        time.sleep(pause.uniform(0, 0.5))
        process.send_signal(signal.SIGKILL)
        process.wait()
    answer = run(environment, *long, f"train.output_dir={killed}", "--resume")
    assert answer.returncode == 0, answer.stderr
    one, other = (torch.load(f / "model_final.pth", weights_only=True)["model"] for f in (undisturbed, killed))
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    iterations = [json.loads(line)["iteration"] for line in (killed / "metrics.json").read_text().splitlines()]
    assert iterations == list(range(30))
    assert not list(killed.glob(".*.tmp"))


def test_sigterm_to_all_processes_of_a_run_saves_and_ends_it_in_order(environment, tmp_path):
    folder = tmp_path / "run"
    endless = ("train.max_iter=100000", "train.eval_period=0", "dataloader.train.num_workers=2")
    words = ("--config-file", CONFIG, *endless, "--num-processes", 2, f"train.output_dir={folder}")
    printed = tmp_path / "printed.txt"
    process = start_tool([TOOL, *words], [printed, printed], environment, before=os.setsid)
    wait_until((folder / "model_0000001.pth").exists)
    os.killpg(process.pid, signal.SIGTERM)
    assert exit_codes([process], printed) == [0], printed.read_text()
    assert "received SIGTERM" in (folder / "log.txt").read_text()
    assert (folder / (folder / "last_checkpoint").read_text()).is_file()


def limit_file_size():
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, 3_000_000))


def test_a_checkpoint_that_does_not_fit_on_the_disk_is_one_message_and_leaves_no_half_file(environment, tmp_path):
    folder = tmp_path / "run"
    arguments = ("--config-file", CONFIG, f"train.output_dir={folder}", "train.device=cpu")
    answer = run(environment, *arguments, before=limit_file_size)
    assert answer.returncode == 1
    assert "can't save the checkpoint" in answer.stderr and "--resume" in answer.stderr
    assert "Traceback" not in answer.stderr
    assert not list(folder.glob("*.pth")) and not list(folder.glob(".*.tmp"))


def test_a_failure_in_a_process_of_a_group_is_one_message(environment, tmp_path):
    poison = "+hooks.poison={_target_: tests.engine.hooks_for_tests.PoisonAt, iteration: 1}"
    arguments = ("--config-file", CONFIG, f"train.output_dir={tmp_path / 'run'}", "--num-processes", 2, poison)
    answer = run(environment, *arguments)
    assert answer.returncode == 1
    assert answer.stderr.count("the loss is not finite at iteration 1") == 1 and "Traceback" not in answer.stderr


def test_an_error_in_one_process_ends_all_of_them_with_its_message(environment, tmp_path):
    fail = "+hooks.fail={_target_: tests.engine.hooks_for_tests.FailInOneProcessAt, iteration: 1}"
    arguments = ("--config-file", CONFIG, f"train.output_dir={tmp_path / 'run'}", "--num-processes", 2, fail)
    assert_user_error(run(environment, *arguments), "can't read its images", "buy a new disk")


def test_too_many_gpus_is_one_message(environment):
    answer = run(environment, "--config-file", ROOT / "configs/xray/mask_rcnn_r50.py", "--num-gpus", 64)
    assert_user_error(answer, "64 GPUs asked for", "fix:")


def test_a_misspelled_key_is_one_message_with_the_right_one(environment):
    assert_user_error(run(environment, "--config-file", CONFIG, "train.max_itr=5"), "train.max_iter")


def test_broken_json_is_one_message(environment, tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "broken.json").write_text('{"images": [')
    names = f"{{json_file: {tmp_path}/broken.json, image_root: {tmp_path}/images}}"
    answer = run(environment, "--config-file", CONFIG, f"dataloader.train.dataset.names={names}")
    assert_user_error(answer, "broken.json", "not valid JSON")
