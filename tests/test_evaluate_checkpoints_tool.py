"""tools/evaluate_checkpoints.py as a person uses it: several at once, kills, signals, exit codes."""

import os
import re
import shutil
import signal
from pathlib import Path

import pytest

from tests.engine.quick_processes import run_group, run_tool, start_tool
from tests.patience import exit_codes, wait_until
from xray_lazy.engine.run import RunOptions
from xray_lazy.engine.run import run as train
from xray_lazy.run_folder import read_json_lines

ROOT = Path(__file__).parent.parent
TOOL = ROOT / "tools" / "evaluate_checkpoints.py"
QUICKLY = ("--device", "cpu", "--poll", 0.1)
NAMES = ["model_0000000", "model_0000001", "model_0000002", "model_0000003", "model_0000004", "model_final"]


def run(environment, *arguments):
    return run_tool(TOOL, *arguments, *QUICKLY, environment=environment)


def start(environment, output, *arguments):
    """A worker whose lines go to the file `output`."""
    return start_tool([TOOL, *arguments, *QUICKLY], [output, output], environment)


def evaluated(output):
    return re.findall(r"^(model_\w+)\.pth .*/AP", output, flags=re.MULTILINE)


def precisions_of(folder):
    lines = read_json_lines(folder / "metrics.json")
    return {line["iteration"]: line["bbox/AP"] for line in lines if "bbox/AP" in line}


def meeting_of(folder, processes, number):
    """Overrides by which a worker waits in its evaluation of this number until so many workers are in theirs."""
    folder.mkdir()
    target = "tests.engine.waiting_evaluator.WaitingEvaluator"
    values = {"meeting": folder, "processes": processes, "number": number}
    return [f"dataloader.evaluator._target_={target}", *(f"+dataloader.evaluator.{k}={v}" for k, v in values.items())]


def wait_for_one_in(meeting, worker):
    wait_until(lambda: list(meeting.iterdir()) or not worker.is_alive())
    assert worker.is_alive()


@pytest.fixture(scope="module")
def finished(environment, tmp_path_factory):
    """A run with six checkpoints, none of them evaluated."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    config, log = str(ROOT / "tests" / "engine" / "tiny.py"), folder.with_suffix(".log")
    overrides = ["train.max_iter=6", f"train.output_dir={folder}", "train.device=cpu"]
    overrides += ["train.checkpointer.period=1", "train.checkpointer.max_to_keep=0"]
    overrides += ["~hooks.evaluation", "~hooks.prediction_pictures"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TINY_SET", environment["TINY_SET"])
        run_group(train, RunOptions(config, overrides), log=log)
    return folder


@pytest.fixture
def copy(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


@pytest.fixture(scope="module")
def expected(environment, finished, tmp_path_factory):
    """The AP of each checkpoint."""
    folder = shutil.copytree(finished, tmp_path_factory.mktemp("expected") / "run")
    answer = run(environment, folder)
    assert answer.returncode == 0 and evaluated(answer.stdout) == NAMES, answer.stderr
    return precisions_of(folder)


def test_several_workers_share_the_checkpoints(environment, copy, expected, tmp_path):
    meeting = meeting_of(tmp_path / "meeting", processes=2, number=1)  # each has one when the other has its first
    outputs = [tmp_path / "one.txt", tmp_path / "other.txt"]
    workers = [start(environment, output, copy, *meeting) for output in outputs]
    assert exit_codes(workers, *outputs) == [0, 0]
    done = [evaluated(output.read_text()) for output in outputs]
    assert all(done) and sorted(done[0] + done[1]) == NAMES
    assert precisions_of(copy) == expected
    written = [line for line in (copy / "metrics.json").read_text().splitlines() if "bbox/AP" in line]
    assert [int(re.search(r'"iteration": (\d+)', line)[1]) for line in written] == list(range(6))
    assert not list((copy / "evaluator").glob("*.claim*")) and not list((copy / "evaluator").glob("*.pth"))


def test_a_worker_that_is_killed_in_the_middle_is_replaced(environment, copy, expected, tmp_path):
    meeting = meeting_of(tmp_path / "meeting", processes=2, number=2)
    worker = start(environment, tmp_path / "output.txt", copy, "--once", *meeting)
    wait_for_one_in(tmp_path / "meeting", worker)
    worker.kill()
    worker.join()
    queue = copy / "evaluator"
    assert (queue / "model_0000001.claim1").exists() and not (queue / "model_0000001.json").exists()
    answer = run(environment, copy, "--once")
    assert answer.returncode == 0 and evaluated(answer.stdout) == NAMES[1:], answer.stderr
    assert precisions_of(copy) == expected
    assert not list(queue.glob("*.claim*"))


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_signal_ends_it_in_order_and_frees_its_checkpoint(environment, copy, expected, number, tmp_path):
    meeting = meeting_of(tmp_path / "meeting", processes=2, number=3)
    output = tmp_path / "output.txt"
    worker = start(environment, output, copy, *meeting)
    wait_for_one_in(tmp_path / "meeting", worker)
    os.kill(worker.pid, number)
    queue = copy / "evaluator"
    assert exit_codes([worker], output) == [0] and f"left on {number.name}" in output.read_text()
    assert not list(queue.glob("*.claim*")) and not (queue / "model_0000002.json").exists()
    assert evaluated(run(environment, copy, "--order", "newest").stdout) == NAMES[:1:-1]
    assert precisions_of(copy) == expected


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "no output folder is given"),
        (["train.seed=3"], "no output folder is given"),
        (["no/such/run"], "there is no run folder no/such/run"),
        ([ROOT / "tools", "--once"], "has no config.yaml"),
        (["RUN", "train.sed=3"], "train.seed"),
        (["RUN", "dataloader.test.dataset.names.json_file=gone.json"], "gone.json"),
        (["RUN", "--device", "tpu"], "the device is 'tpu'"),
        (["RUN", "--odrer", "newest"], "--order"),
    ],
)
def test_what_is_for_the_person_to_fix_is_one_message(environment, finished, arguments, words):
    arguments = [finished if argument == "RUN" else argument for argument in arguments]
    answer = run_tool(TOOL, *arguments, environment=environment)
    assert answer.returncode == 2 and words in answer.stderr and "Traceback" not in answer.stderr
    assert not (finished / "evaluator").exists()


def test_no_news_from_a_training_that_has_not_ended_is_a_failure(environment, copy):
    (copy / "model_final.pth").unlink()
    answer = run(environment, copy, "--timeout", 0.005)
    assert answer.returncode == 1 and "no news from the training" in answer.stderr
    assert evaluated(answer.stdout) == NAMES[:-1]
