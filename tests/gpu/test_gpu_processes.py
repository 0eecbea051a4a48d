"""Two processes: with a GPU each under NCCL where there are two, else sharing one under gloo."""

import json

import pytest
import torch

from tests import patience
from tests.engine.quick_processes import start_group
from tests.gpu.experiments import EXPERIMENTS, drawing_all, quiet
from xray_lazy.errors import UserError

FAIL = "+hooks.fail={_target_: tests.engine.hooks_for_tests.FailInOneProcessAt, iteration: 2}"


def train_sharing_a_gpu(config, overrides, device, report):
    """A process of a group that the launcher does not make: NCCL refuses two processes on one GPU."""
    from detectron2.utils import comm

    from xray_lazy.config import load_config
    from xray_lazy.engine.experiment import train

    torch.distributed.init_process_group("gloo", init_method="env://")
    comm.create_local_process_group(2)
    cfg = load_config(config, overrides)
    try:
        train(cfg, device)
    except UserError as error:
        with open(report, "w") as stream:
            stream.write(str(error))
        raise


def train_under_nccl(config, overrides, device, report):
    from xray_lazy.engine.run import RunOptions, run

    try:
        run(RunOptions(config, overrides))
    except UserError as error:
        with open(report, "w") as stream:
            stream.write(str(error))
        raise


def exit_codes(config, folder, device, overrides=()):
    """Of two processes that train; each must end."""
    function = train_under_nccl if torch.cuda.device_count() > 1 else train_sharing_a_gpu
    overrides = [*quiet(folder, device), "train.eval_period=0", *overrides]
    report = folder.with_suffix(".txt")
    group = start_group(function, config, overrides, device, str(report), processes=2, log=folder.with_suffix(".log"))
    return patience.exit_codes(group, folder.with_suffix(".log"))


def losses_of(folder):
    return [json.loads(line)["total_loss"] for line in (folder / "metrics.json").read_text().splitlines()]


@pytest.mark.parametrize("amp", ["False", "True"])
def test_two_processes_train_as_one(config, device, tmp_path, amp):
    from xray_lazy.engine.run import RunOptions, run

    # in small steps, where rounding does not grow
    overrides = [f"train.amp.enabled={amp}", "optimizer.lr=0.0001", *drawing_all(config)]
    run(RunOptions(config, [*quiet(tmp_path / "one", device), "train.eval_period=0", *overrides]))
    assert exit_codes(config, tmp_path / "two", device, overrides) == [0, 0], (tmp_path / "two.log").read_text()
    tolerance = 0.05 if amp == "True" else 0.01
    assert losses_of(tmp_path / "two") == pytest.approx(losses_of(tmp_path / "one"), rel=tolerance)


def test_one_process_that_fails_ends_both_with_its_message(device, tmp_path):
    codes = exit_codes(EXPERIMENTS["mask_rcnn"], tmp_path / "run", device, [FAIL])
    assert None not in codes and codes[1] != 0
    assert "can't read its images" in (tmp_path / "run.txt").read_text()
