"""`from xray_lazy import train, evaluate, predict`, and the command `xray-lazy`, as a user's script calls them."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from unittest.mock import Mock, call

import cv2
import numpy as np
import pytest

import xray_lazy
from tests.patience import wait_until
from xray_lazy.errors import UserError
from xray_lazy.python_calls import _run, _words
from xray_lazy.utils.processes import process_start

CONFIG = Path(__file__).parent / "engine" / "tiny.py"
SHORT = {"train.max_iter": 2, "train.device": "cpu", "hooks.best_checkpoint.metric": "bbox/AP"}


@pytest.fixture
def here(environment, monkeypatch):
    """This process has the environment of a tool."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


def test_a_training_is_evaluated_and_predicts(here, tmp_path, capsys):
    run = xray_lazy.train(CONFIG, {**SHORT, "train.output_dir": str(tmp_path / "a run")})
    assert run.folder == tmp_path / "a run" and run.weights.parent == run.folder
    assert [row["iteration"] for row in run.history][-1] == 1
    assert "[2/2]" in capsys.readouterr().out
    curves = cv2.imdecode(np.frombuffer(run._repr_png_(), np.uint8), cv2.IMREAD_COLOR)
    assert curves.shape[1] > 800 and len({line.get_label() for a in run.plot().axes for line in a.lines}) >= 2

    # in a folder beside that of the training's own evaluation, under the same names
    metrics = xray_lazy.evaluate(run.folder, {"dataloader.evaluator.screening.iou": 0.4})
    assert len(list((run.folder / "evaluation" / "tiny").iterdir())) == 2
    assert metrics.keys() == run.metrics.keys()
    assert metrics["bbox/AP"] == pytest.approx(run.metrics["bbox/AP"], nan_ok=True)

    gray = np.full((40, 60, 3), 127, np.uint8)
    broken = tmp_path / "scans" / "broken.png"
    broken.parent.mkdir()
    broken.write_bytes(b"no image")
    cv2.imwrite(str(broken.with_name("bag.png")), gray)
    found = xray_lazy.predict(run.folder, [broken.parent, gray], threshold=0)
    assert [item.problem is None for item in found] == [True, False, True]
    np.testing.assert_array_equal(found[0].instances.scores, found[2].instances.scores)
    assert len(xray_lazy.predict(run.folder, gray)) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((CONFIG, ["train.max_itr=3"]), "max_iter"),
        ((CONFIG, "train.max_iter=3"), "['train.max_iter=3']"),
        (("xray/mask_rcn_r50.py",), "mask_rcnn_r50.py"),
    ],
    ids=["a key that is not there", "overrides as one text", "a config's name"],
)
def test_errors_are_those_of_the_tools(here, arguments, words):
    with pytest.raises(UserError) as raised:
        xray_lazy.train(*arguments)
    assert words in str(raised.value)


@pytest.mark.parametrize("function", [xray_lazy.train, xray_lazy.evaluate])
@pytest.mark.parametrize("settings", [{"max_iter": 3}, None])
def test_a_config_without_an_output_folder_is_refused_as_by_the_tool(here, function, settings):
    with pytest.raises(UserError, match=r"(?s)train.*the config has no such"):
        function(CONFIG, {"++train": settings})


@pytest.mark.parametrize(
    ("function", "arguments", "options", "words"),
    [
        (xray_lazy.train, (None,), {}, "config can't be of the type NoneType"),
        (xray_lazy.train, (CONFIG, 5), {}, "overrides can't be of the type int"),
        (xray_lazy.train, (CONFIG,), {"resume": "no"}, "resume can't be of the type str"),
        (xray_lazy.evaluate, (None,), {}, "source can't be of the type NoneType"),
        (xray_lazy.evaluate, (CONFIG,), {"weights": 5}, "weights can't be of the type int"),
        (xray_lazy.predict, (None, "bag.png"), {}, "model can't be of the type NoneType"),
        (xray_lazy.predict, ("run", []), {"device": None}, "device can't be of the type NoneType"),
        (xray_lazy.predict, ("run", []), {"batch_size": None}, "batch_size can't be of the type NoneType"),
    ],
)
def test_arguments_of_other_types_are_told(function, arguments, options, words):
    with pytest.raises(UserError) as raised:
        function(*arguments, **options)
    assert raised.value.message == f"the argument {words}" and raised.value.fix


def test_a_key_can_be_removed_by_a_dict():
    assert _words({"~writers.wandb": None, "a.b": Path("c")}) == ["~writers.wandb", "a.b=c"]


@pytest.mark.parametrize("images", [b"JFIF", None, 3], ids=repr)
def test_what_is_no_image_is_told_once(here, images, monkeypatch):
    # the detector is not asked for
    monkeypatch.setattr("xray_lazy.prediction.predictor.load_detector", lambda *_: None)
    [found] = xray_lazy.predict("run", images)
    assert found.problem.message == f"{type(images).__name__} is no image"


def test_what_a_process_of_the_training_refuses_is_raised(here, tmp_path):
    with pytest.raises(UserError, match="exclude each other") as raised:
        xray_lazy.train(CONFIG, {"train.output_dir": str(tmp_path / "run")}, num_gpus=1, num_processes=1)
    assert raised.value.fix and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [({"num_processes": 0}, "argument --num-processes: 0 is less than 1"), ({"num_gpus": 1.5}, "argument --num-gpus")],
    ids=["a number that is too small", "no whole number"],
)
def test_what_the_command_line_refuses_is_raised(here, tmp_path, arguments, told):
    with pytest.raises(UserError) as raised:
        xray_lazy.train(CONFIG, {"train.output_dir": tmp_path / "run"}, **arguments)
    assert raised.value.message.startswith(told)


@pytest.mark.slow
def test_an_interrupt_lets_the_run_save(here, tmp_path):
    checkpoint = tmp_path / "run" / "last_checkpoint"

    def interrupt():
        while not checkpoint.exists():
            time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGINT)

    options = {**SHORT, "train.max_iter": 100_000, "train.checkpointer.period": 5, "train.eval_period": 0}
    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        xray_lazy.train(CONFIG, {**options, "train.output_dir": str(checkpoint.parent)})
    saved = checkpoint.read_text()
    assert (checkpoint.parent / saved).is_file()


def test_a_second_interrupt_is_handed_on_as_one(monkeypatch):
    process = Mock(stdout=None)
    process.wait.side_effect = [KeyboardInterrupt, KeyboardInterrupt, 130]
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: process)
    with pytest.raises(KeyboardInterrupt):
        _run([], {})
    assert process.send_signal.call_args_list == [call(signal.SIGINT)] * 2


def test_a_script_that_is_killed_leaves_no_training_behind(tmp_path):
    told = tmp_path / "pid"
    waits = f"import os, time; open({str(told)!r}, 'w').write(f'{{os.getpid()}}.'); time.sleep(999)"
    training = [sys.executable, "-c", waits]
    words = f"import os; from xray_lazy.python_calls import _run; _run({training!r}, os.environ)"
    script = subprocess.Popen([sys.executable, "-c", words])
    wait_until(lambda: told.is_file() and told.read_text().endswith("."))
    script.kill()
    script.wait()
    wait_until(lambda: process_start(int(told.read_text()[:-1])) is None)


def command(*words):
    return subprocess.run([sys.executable, "-m", "xray_lazy.xray_command", *words], capture_output=True, text=True)


def test_the_command_has_the_tools():
    told = command("--help")
    assert told.returncode == 0 and "\n  train " in told.stdout and "\n  find-batch-size " in told.stdout
    assert command("--version").stdout.strip() == xray_lazy.__version__
    wrong = command("trian")
    assert wrong.returncode == 2 and "train" in wrong.stderr and "Traceback" not in wrong.stderr
    refused = command("predict")  # the tool's own words and exit code
    assert refused.returncode == 2 and "no model is given" in refused.stderr


@pytest.mark.parametrize("images", ["", [], [""], iter(())])
def test_no_image_at_all_is_refused(images):
    with pytest.raises(UserError, match="images names no image"):
        xray_lazy.predict("run", images)
