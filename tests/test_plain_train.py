"""tools/plain_train.py: one loop that a person can read, with the trainer's losses."""

import argparse
import json
import runpy
from pathlib import Path

import pytest
import torch

from tests.engine.quick_processes import run_tool
from xray_lazy.engine.run import RunOptions, run
from xray_lazy.errors import UserError

ROOT = Path(__file__).parent.parent
TOOL = ROOT / "tools" / "plain_train.py"
CONFIG = ROOT / "tests" / "engine" / "tiny.py"


pytestmark = pytest.mark.usefixtures("tiny_set")


def plain(*overrides):
    main = runpy.run_path(str(TOOL))["main"]
    main(argparse.Namespace(config_file=str(CONFIG), overwrite=False), ["train.device=cpu", *overrides])


def losses_of(folder):
    lines = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    return [{k: v for k, v in line.items() if "loss" in k or k in ("gradient_norm", "iteration")} for line in lines]


@pytest.mark.parametrize(
    "changes",
    [
        ("train.max_iter=6",),
        ("train.amp.enabled=True", "train.clip_gradients.max_norm=0.5", "dataloader.train.num_workers=1"),
    ],
    ids=["plain", "mixed precision, clipped, with a worker"],
)
def test_losses_and_weights_are_those_of_the_trainer_bit_for_bit(tmp_path, changes):
    alone, trained = tmp_path / "plain", tmp_path / "trainer"
    plain(*changes, f"train.output_dir={alone}")
    without = ["~hooks.prediction_pictures", "train.eval_period=0", "writers.wandb.mode=disabled"]
    run(RunOptions(str(CONFIG), ["train.device=cpu", *changes, *without, f"train.output_dir={trained}"]))
    assert len(losses_of(alone)) >= 4 and losses_of(alone) == losses_of(trained)
    one, other = (torch.load(f / "model_final.pth", weights_only=True)["model"] for f in (alone, trained))
    assert one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())
    last = f"evaluation/tiny/iter_{len(losses_of(alone)) - 1}/metrics.json"
    assert (alone / last).read_text() == (trained / last).read_text()


def test_the_file_is_short_enough_to_be_read():
    assert len(TOOL.read_text().splitlines()) < 150


def test_a_misspelled_key_is_one_message_with_exit_code_2(tmp_path):
    arguments = ["--config-file", CONFIG, "train.max_itr=5", f"train.output_dir={tmp_path / 'run'}"]
    answer = run_tool(TOOL, *arguments)
    assert answer.returncode == 2 and "train.max_iter" in answer.stderr and "Traceback" not in answer.stderr
    assert not (tmp_path / "run").exists()


def test_what_the_loop_does_not_do_is_refused():
    with pytest.raises(UserError, match="does not accumulate"):
        plain("train.accumulate=2")


def test_a_folder_with_checkpoints_gets_no_advice_to_a_flag_that_this_tool_lacks(tmp_path):
    folder = tmp_path / "run"
    plain("train.max_iter=1", f"train.output_dir={folder}")
    with pytest.raises(UserError, match="holds checkpoints of this very config") as refused:
        plain("train.max_iter=1", f"train.output_dir={folder}")
    assert "--resume" not in refused.value.fix and "--overwrite" in refused.value.fix
