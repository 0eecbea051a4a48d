"""The moving average of the weights: against a plain computation, through resume, and as it is evaluated."""

import json

import pytest
import torch
from detectron2.engine.train_loop import HookBase
from torch import nn

from tests.engine.conftest import CONFIG
from tests.engine.quick_processes import run_group
from tests.engine.small_training import KeepWeights, SmallModel, train_small
from xray_lazy.engine.hooks.ema import ExponentialMovingAverage
from xray_lazy.engine.hooks.periodic_checkpoint import PeriodicCheckpoint
from xray_lazy.engine.processes.launch import plan_launch, run_processes
from xray_lazy.engine.run import RunOptions, run
from xray_lazy.errors import UserError

DECAY = 0.5  # is reached in the ninth step: n / (9 + n) before
ITERATIONS = 12


def read(path):
    return torch.load(path, weights_only=True)


def plain_average(steps):
    """Of the weights after each step, one number at a time in double precision; counters are those of the model."""
    average = {name: value.double() for name, value in SmallModel().state_dict().items()}
    for n, weights in enumerate(steps, 1):
        decay = min(DECAY, n / (9 + n))
        for name, value in weights.items():
            average[name] = decay * average[name] + (1 - decay) * value if value.is_floating_point() else value
    return average


def assert_close(average, expected):
    assert average.keys() == expected.keys() and "norm.running_mean" in expected
    for name, value in average.items():
        torch.testing.assert_close(value, expected[name].to(value.dtype), rtol=1e-5, atol=1e-6, msg=name)


def assert_equal(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


@pytest.mark.parametrize(
    "options",
    [{}, {"accumulate": 2}, {"precision": {"enabled": True, "dtype": "bfloat16"}}, {"later": True}],
    ids=["plain", "accumulation", "bfloat16", "as on a GPU"],
)
def test_the_average_is_that_of_the_weights_after_each_step(tmp_path, options):
    ema, keep = ExponentialMovingAverage(DECAY), KeepWeights()
    train_small(tmp_path, {"keep": keep, "ema": ema}, ITERATIONS, **options)
    assert len(keep.after) == ITERATIONS
    assert_close(ema.model.state_dict(), plain_average(keep.after))
    assert (ema.model.layer.weight - keep.after[-1]["layer.weight"]).abs().max() > 1e-3


def test_each_of_two_processes_has_the_average(tmp_path):
    run_group(_in_group, str(tmp_path), processes=2, log=tmp_path / "log.txt")
    first, second = (read(tmp_path / f"rank_{rank}.pth") for rank in range(2))
    assert_equal(first["average"], second["average"])
    assert_close(first["average"], plain_average(first["after"]))


def _in_group(folder):
    run_processes(plan_launch("cpu"), _keep_average, folder)


def _keep_average(folder):
    ema, keep = ExponentialMovingAverage(DECAY), KeepWeights()
    train_small(folder, {"keep": keep, "ema": ema}, 3)
    content = {"average": ema.model.state_dict(), "after": keep.after}
    torch.save(content, f"{folder}/rank_{torch.distributed.get_rank()}.pth")


class NoFiniteGradientAt(HookBase):
    def __init__(self, iteration):
        self.iteration = iteration

    def before_step(self):
        if self.trainer.iter == self.iteration:
            weight = self.trainer.bare_model.layer.weight
            self.handle = weight.register_hook(lambda gradient: gradient * float("inf"))

    def after_step(self):
        if self.trainer.iter == self.iteration:
            self.handle.remove()


@pytest.mark.parametrize(
    "options",
    [
        {"max_skipped_steps": 1},
        {"max_skipped_steps": 1, "later": True},
        {"precision": {"enabled": True, "dtype": "float16"}},
    ],
    ids=["not finite", "left out by a GPU", "loss scaling"],
)
def test_a_step_that_was_left_out_is_not_averaged(tmp_path, options):
    ema, keep = ExponentialMovingAverage(DECAY), KeepWeights()
    train_small(tmp_path, {"bad": NoFiniteGradientAt(4), "keep": keep, "ema": ema}, ITERATIONS, **options)
    before = [SmallModel().state_dict(), *keep.after]
    taken = [
        new for old, new in zip(before, keep.after, strict=False) if (old["layer.bias"] != new["layer.bias"]).all()
    ]
    assert ema.steps_taken == len(taken) < ITERATIONS
    assert_close(ema.model.state_dict(), plain_average(taken))


def test_a_resumed_run_ends_with_the_same_average(tmp_path):
    def hooks():
        return {"ema": ExponentialMovingAverage(DECAY), "checkpoint": PeriodicCheckpoint(period=2)}

    train_small(tmp_path / "whole", hooks(), ITERATIONS)
    train_small(tmp_path / "broken", hooks(), ITERATIONS, stop_at=5)
    assert not (tmp_path / "broken" / "model_final_ema.pth").exists()
    train_small(tmp_path / "broken", hooks(), ITERATIONS, resume=True)
    one, other = (read(tmp_path / name / "model_final_ema.pth") for name in ("whole", "broken"))
    assert one["iteration"] == other["iteration"] == ITERATIONS - 1
    assert_equal(one["model"], other["model"])


def test_a_run_that_had_no_average_begins_one_when_it_is_resumed(tmp_path):
    keep = KeepWeights()
    train_small(tmp_path, {"keep": keep, "checkpoint": PeriodicCheckpoint(period=2)}, ITERATIONS, stop_at=2)
    ema = ExponentialMovingAverage(DECAY)
    train_small(tmp_path, {"ema": ema, "keep": keep}, 3, resume=True)
    expected = {name: 0.1 * value + 0.9 * keep.after[2][name] for name, value in keep.after[1].items()}
    torch.testing.assert_close(ema.model.layer.weight, expected["layer.weight"])


def test_an_average_of_an_earlier_end_does_not_pass_for_that_of_the_final_weights(tmp_path):
    def hooks(decay):
        return {"ema": ExponentialMovingAverage(decay), "checkpoint": PeriodicCheckpoint(period=2)}

    train_small(tmp_path, hooks(DECAY), 2)
    earlier = read(tmp_path / "model_final_ema.pth")
    train_small(tmp_path, hooks(0), 4, resume=True)
    assert not (tmp_path / "model_final_ema.pth").exists()
    assert_equal(read(tmp_path / "model_final_ema_earlier1.pth")["model"], earlier["model"])


def start(overrides, **options):
    run(RunOptions(CONFIG, ["hooks.ema.decay=0.5", "train.max_iter=2", "train.eval_period=0", *overrides], **options))


def test_beside_the_weights_their_average_is_evaluated_under_its_own_name(output):
    folder, overrides = output
    start(overrides)
    last = json.loads((folder / "metrics.json").read_text().splitlines()[-1])
    assert {"bbox/AP", "bbox_EMA/AP", "segm/AP", "segm_EMA/AP"} <= last.keys()
    evaluations = folder / "evaluation" / "tiny"
    assert sorted(p.name for p in evaluations.iterdir()) == ["iter_1", "iter_1_EMA"]
    during = (evaluations / "iter_1_EMA" / "predictions.json").read_text()
    assert during != (evaluations / "iter_1" / "predictions.json").read_text()
    start([*overrides, f"train.init_checkpoint={folder / 'model_final_ema.pth'}"], eval_only=True)
    (again,) = (p for p in evaluations.iterdir() if p.name not in ("iter_1", "iter_1_EMA"))
    assert (again / "predictions.json").read_text() == during
    assert (evaluations / "iter_1" / "predictions.json").read_text() != during


def test_instead_of_the_weights_their_average_is_evaluated_and_kept_as_the_best(output):
    folder, overrides = output
    start([*overrides, "hooks.ema.evaluate=instead"])
    assert [p.name for p in (folder / "evaluation" / "tiny").iterdir()] == ["iter_1_EMA"]
    best = json.loads((folder / "best.json").read_text())
    assert (best["metric"], best["evaluation"]) == ("segm_EMA/AP", "evaluation/tiny/iter_1_EMA")
    average = read(folder / "model_final.pth")["trainer"]["hooks"]["ema"]["model"]
    assert_equal(read(folder / "model_best.pth")["model"], average)
    assert any(name.endswith("num_batches_tracked") for name in average)


def test_without_a_decay_nothing_is_averaged(tmp_path):
    hooks = {"ema": ExponentialMovingAverage(), "checkpoint": PeriodicCheckpoint(period=2)}
    trainer = train_small(tmp_path, hooks, 2)
    assert list(trainer.evaluated_models) == [""]
    assert read(tmp_path / "model_final.pth")["trainer"]["hooks"] == {}
    assert not (tmp_path / "model_final_ema.pth").exists()


class HalfPrecision(nn.Module):
    """One weight, which a step brings from 1 to 2, and a buffer that is no statistic."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, dtype=torch.bfloat16))
        self.register_buffer("mask", torch.tensor([0.0, -torch.inf]))

    def forward(self, batch):
        return {"loss": -10 * self.weight.sum() if self.weight.item() < 2 else 0 * self.weight.sum()}


def test_a_model_of_half_precision_has_an_average_of_full_precision(tmp_path):
    ema = ExponentialMovingAverage(decay=0.9999)
    ema.steps = 10**6  # long past the first steps
    model = HalfPrecision()
    train_small(tmp_path, {"ema": ema}, 1, model=model)
    assert model.weight.item() == 2
    assert ema.model.weight.item() == pytest.approx(1.0001, abs=1e-6)  # which is 1 in bfloat16
    assert ema.model.mask.tolist() == [0.0, -torch.inf]


@pytest.mark.parametrize(("arguments", "words"), [({"decay": 1.0}, "decay is 1.0"), ({"evaluate": "never"}, "'never'")])
def test_wrong_arguments_are_errors(arguments, words):
    with pytest.raises(UserError, match=words):
        ExponentialMovingAverage(**arguments)
