"""Whole runs on a GPU: train, evaluate, resume, each precision, compiled, in micro-batches."""

import json
import statistics

import pytest
import torch

from tests.gpu.experiments import EXPERIMENTS, quiet
from xray_lazy.config import load_config
from xray_lazy.engine.run import RunOptions, run

MASK_RCNN = EXPERIMENTS["mask_rcnn"]
SWITCHES = {
    "bfloat16": ["train.amp.enabled=True"],
    "float16": ["train.amp.enabled=True", "train.amp.dtype=float16"],
    "channels_last": ["train.channels_last=True", "train.amp.enabled=True"],
    "fused": ["optimizer.fused=True"],
    "accumulate": ["train.accumulate=2"],
    "compiled": ["train.compile.enabled=True"],
    "deterministic": ["train.deterministic=True"],
}
# of both runs: batch norm that is trained sees the micro-batch
BESIDE_SWITCH = {"accumulate": ["train.freeze=[backbone.bottom_up]"]}


def train(config, folder, device, overrides=(), **options):
    run(RunOptions(config, [*quiet(folder, device), *overrides], **options))


def losses_of(folder):
    lines = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    return {line["iteration"]: line["total_loss"] for line in lines if "total_loss" in line}


def checkpoint_of(folder, name="model_final"):
    return torch.load(folder / f"{name}.pth", map_location="cpu", weights_only=True)


def test_a_run_trains_and_evaluates(config, device, tmp_path):
    train(config, tmp_path / "run", device)
    assert sorted(losses_of(tmp_path / "run")) == [0, 1, 2, 3]
    for iteration in (1, 3):
        assert (tmp_path / "run" / "evaluation" / "tiny" / f"iter_{iteration}" / "predictions.json").is_file()
    assert checkpoint_of(tmp_path / "run")["iteration"] == 3


def test_weights_of_a_gpu_are_evaluated_on_either_device(config, device, tmp_path):
    train(config, tmp_path / "run", device, ["train.eval_period=0"])
    weights = f"train.init_checkpoint={tmp_path}/run/model_final.pth"
    for where in (device, "cpu"):
        train(config, tmp_path / where, where, [weights], eval_only=True)
        assert list((tmp_path / where / "evaluation").rglob("predictions.json"))


@pytest.mark.parametrize("switch", ["none", "float16"])
def test_a_stopped_run_goes_on_where_it_was(config, device, tmp_path, switch):
    overrides = ["train.max_iter=6", "train.eval_period=0", *SWITCHES.get(switch, [])]
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    train(config, whole, device, overrides)
    stop = "+hooks.stop={_target_: tests.engine.hooks_for_tests.StopAt, iteration: 2}"
    train(config, stopped, device, [*overrides, stop])
    assert sorted(losses_of(stopped)) == [0, 1, 2]
    train(config, stopped, device, overrides, resume=True, overwrite=True)
    ours, reference = losses_of(stopped), losses_of(whole)
    assert sorted(ours) == sorted(reference)
    # sums of atomic additions, in an order of their own at each run
    assert [ours[i] for i in sorted(ours)] == pytest.approx([reference[i] for i in sorted(reference)], rel=0.02)
    scalers = [checkpoint_of(folder)["scaler"] for folder in (whole, stopped)]
    assert scalers[0] == scalers[1] and bool(scalers[0]) == (switch == "float16")


@pytest.mark.parametrize("switch", SWITCHES)
def test_each_switch_trains_as_plain_float32(config, device, tmp_path, switch, request):
    if switch == "compiled":
        request.getfixturevalue("needs_cuda")  # on the CPU it takes minutes
    # small steps: with large ones rounding grows from step to step
    rate = load_config(config).optimizer.lr / 50
    overrides = ["train.max_iter=8", "train.eval_period=0", "train.checkpointer.period=8", f"optimizer.lr={rate}"]
    overrides += BESIDE_SWITCH.get(switch, [])
    train(config, tmp_path / "plain", device, overrides)
    train(config, tmp_path / "switched", device, [*overrides, *SWITCHES[switch]])
    plain, switched = losses_of(tmp_path / "plain"), losses_of(tmp_path / "switched")
    assert switched[0] == pytest.approx(plain[0], rel=0.05)
    late = [statistics.mean(list(losses.values())[-4:]) for losses in (plain, switched)]
    assert late[1] == pytest.approx(late[0], rel=0.1)
    log = (tmp_path / "switched" / "log.txt").read_text()
    assert "runs without it" not in log and "not finite" not in log


def test_a_deterministic_run_repeats_to_the_last_bit(config, device, tmp_path):
    overrides = ["train.eval_period=0", "train.deterministic=True"]
    for name in ("one", "other"):
        train(config, tmp_path / name, device, overrides)
    assert losses_of(tmp_path / "one") == pytest.approx(losses_of(tmp_path / "other"), rel=1e-3)


def test_readers_fill_pinned_memory(device, tmp_path, needs_cuda):
    readers = ["dataloader.train.num_workers=2", "dataloader.test.num_workers=1"]
    train(MASK_RCNN, tmp_path / "run", device, readers)
    assert len(losses_of(tmp_path / "run")) == 4


def test_bfloat16_learns_as_float32_does(config, device, tmp_path, needs_cuda):
    """What has to hold before bfloat16 can be the default of configs for GPUs."""
    overrides = ["train.max_iter=300", "train.eval_period=0", "train.checkpointer.period=300"]
    late = {}
    for name in ("none", "bfloat16"):
        train(config, tmp_path / name, device, [*overrides, *SWITCHES.get(name, [])])
        late[name] = statistics.mean(list(losses_of(tmp_path / name).values())[-50:])
    first = losses_of(tmp_path / "none")[0]
    assert late["none"] < 0.7 * first
    assert late["bfloat16"] == pytest.approx(late["none"], rel=0.15)
