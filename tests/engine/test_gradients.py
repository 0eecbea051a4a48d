"""What reaches the optimizer: accumulated, unscaled, clipped and finite gradients, against computation by hand."""

import json
import logging
import types

import pytest
import torch
from detectron2.engine.train_loop import HookBase
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from tests.engine.quick_processes import run_group
from xray_lazy.engine.checkpoint import Checkpointer
from xray_lazy.engine.precision import Precision
from xray_lazy.engine.processes.launch import plan_launch, run_processes
from xray_lazy.engine.trainer import Trainer
from xray_lazy.errors import RunFailure

BATCH = 4


class Regression(nn.Module):
    """Losses that are not means over the batch, so that two halves of it are not the whole."""

    def __init__(self, batch_norm: bool = False):
        super().__init__()
        torch.manual_seed(0)
        self.norm = nn.BatchNorm1d(3) if batch_norm else nn.Identity()
        self.layer = nn.Linear(3, 2)

    def forward(self, batch: list[dict]) -> dict[str, torch.Tensor]:
        inputs, targets = (torch.stack([sample[key] for sample in batch]) for key in ("input", "target"))
        error = self.layer(self.norm(inputs)) - targets
        return {"loss_root": error.square().mean().sqrt(), "loss_largest": error.abs().max()}


class Batches:
    """Random samples, the same at each call; those of the iterations in `bad` are not finite."""

    total_batch_size = BATCH

    def __init__(self, bad: tuple[int, ...] = (), share: slice = slice(None)):
        self.bad, self.share = bad, share

    def batch(self, iteration: int) -> list[dict]:
        random = torch.Generator().manual_seed(iteration)
        scale = float("nan") if iteration in self.bad else 1.0
        samples = [
            {
                "input": scale * torch.randn(3, generator=random),
                "target": torch.randn(2, generator=random),
                "file_name": f"{iteration}_{number}.png",
            }
            for number in range(BATCH)
        ]
        return samples[self.share]

    def batches(self, start, images_seen):
        return (self.batch(iteration) for iteration in range(start, 1000))


class KeepLogged(HookBase):
    def __init__(self):
        self.norms, self.skipped = [], []

    def after_step(self):
        latest = self.trainer.storage.latest()
        self.norms.append(latest.get("gradient_norm", (None, 0))[0])  # the first process has it
        self.skipped.append(latest.get("skipped_steps", (0, 0))[0])


def make_trainer(folder, model=None, loader=None, precision=None, **options):
    model = model or Regression()
    bare = model.module if isinstance(model, DistributedDataParallel) else model
    return Trainer(
        model,
        torch.optim.SGD(model.parameters(), lr=1.0),
        loader or Batches(),
        precision or Precision("cpu"),
        Checkpointer(bare, folder),
        hooks={"keep": KeepLogged()},
        writers={},
        evaluate=types.SimpleNamespace(),
        **options,
    )


def gradient(model, batches, precision=None):
    """By hand: that of the mean loss over `batches`."""
    precision = precision or Precision("cpu")
    model.zero_grad()
    for batch in batches:
        with precision.autocast():
            losses = model(batch)
        (sum(losses.values()) / len(batches)).backward()
    return flat([p.grad for p in model.parameters()])


def flat(tensors):
    return torch.cat([tensor.detach().flatten() for tensor in tensors])


def step_taken(trainer):
    """What one step with a learning rate of 1 subtracted from the weights."""
    before = flat(trainer.bare_model.parameters())
    trainer.train(0, 1)
    return before - flat(trainer.bare_model.parameters())


def make_precision(**settings):
    precision = Precision("cpu", **settings)
    if precision.scaler.is_enabled():
        # the usual first scale is found too large in the first steps, which are left out
        precision.scaler = torch.amp.GradScaler("cpu", init_scale=16.0)
    return precision


PRECISIONS = [{}, {"enabled": True, "dtype": "bfloat16"}, {"enabled": True, "dtype": "float16"}]


@pytest.mark.parametrize("settings", PRECISIONS, ids=["float32", "bfloat16", "float16"])
def test_two_parts_give_the_gradient_of_the_mean_of_their_losses(tmp_path, settings):
    halves = [Batches().batch(0)[:2], Batches().batch(0)[2:]]
    expected = gradient(Regression(), halves, make_precision(**settings))
    whole = gradient(Regression(), [Batches().batch(0)], make_precision(**settings))
    taken = step_taken(make_trainer(tmp_path, precision=make_precision(**settings), accumulate=2))
    # in float16 the losses of the run are scaled, which rounds in another way
    tolerance = 1e-2 if settings.get("dtype") == "float16" else 1e-6
    torch.testing.assert_close(taken, expected, rtol=tolerance, atol=tolerance)
    assert (whole - expected).abs().max() > 0.05


def test_the_losses_of_the_parts_are_logged_as_their_mean(tmp_path):
    trainer = make_trainer(tmp_path, accumulate=2)
    with torch.no_grad():
        halves = [Regression()(Batches().batch(0)[part]) for part in (slice(2), slice(2, 4))]
    trainer.train(0, 1)
    for name in ("loss_root", "loss_largest"):
        assert trainer.last_losses[name] == pytest.approx(sum(half[name].item() for half in halves) / 2)


def test_the_logged_norm_is_that_of_all_gradients_together(tmp_path):
    trainer = make_trainer(tmp_path)
    expected = gradient(Regression(), [Batches().batch(0)]).square().sum().sqrt().item()
    trainer.train(0, 1)
    assert trainer.named_hooks["keep"].norms == [pytest.approx(expected)]


@pytest.mark.parametrize("settings", PRECISIONS[::2], ids=["float32", "float16"])
def test_clipping_keeps_the_direction_and_the_logged_norm_is_the_one_before(tmp_path, settings):
    full = step_taken(make_trainer(tmp_path, precision=make_precision(**settings)))
    trainer = make_trainer(tmp_path, precision=make_precision(**settings), max_norm=0.25)
    clipped = step_taken(trainer)
    assert clipped.norm().item() == pytest.approx(0.25, rel=1e-3)
    torch.testing.assert_close(clipped / clipped.norm(), full / full.norm(), rtol=1e-3, atol=1e-3)
    assert trainer.named_hooks["keep"].norms == [pytest.approx(full.norm().item(), rel=1e-3)]


def test_a_gradient_below_the_norm_is_not_changed(tmp_path):
    full = step_taken(make_trainer(tmp_path))
    assert torch.equal(step_taken(make_trainer(tmp_path, max_norm=1000.0)), full)


def test_a_step_that_is_not_finite_is_left_out_with_its_batch_norm_statistics(tmp_path, caplog):
    trainer = make_trainer(tmp_path, Regression(batch_norm=True), Batches(bad=(1,)), max_skipped_steps=1)
    with caplog.at_level(logging.WARNING):
        trainer.train(0, 3)
    expected = make_trainer(tmp_path, Regression(batch_norm=True))
    expected.train(0, 1)
    expected.train(2, 3)
    for name, value in expected.model.state_dict().items():
        assert torch.equal(value, trainer.model.state_dict()[name]), name
    assert trainer.named_hooks["keep"].skipped == [0, 1, 1]
    assert "skipped iteration 1" in caplog.text and "1 of at most 1" in caplog.text
    assert trainer.state_dict()["skipped_steps"] == 1


def test_float16_goes_on_after_a_loss_that_is_not_finite(tmp_path):
    half = make_precision(enabled=True, dtype="float16")
    trainer = make_trainer(tmp_path, loader=Batches(bad=(1,)), precision=half, max_skipped_steps=1)
    trainer.train(0, 3)
    assert trainer.named_hooks["keep"].skipped == [0, 1, 1]


def test_a_run_with_more_such_steps_than_allowed_fails_and_names_the_loss_and_the_images(tmp_path):
    trainer = make_trainer(tmp_path, loader=Batches(bad=(1, 2, 3)), max_skipped_steps=2)
    with pytest.raises(RunFailure) as error:
        trainer.train(0, 5)
    assert "after 2 skipped steps, the loss is not finite" in error.value.message
    assert "(loss_largest, loss_root)" in error.value.message
    assert "at iteration 3" in error.value.message and "3_0.png" in error.value.message
    assert torch.isfinite(flat(trainer.model.parameters())).all()


def test_a_resumed_run_goes_on_counting_skipped_steps(tmp_path):
    trainer = make_trainer(tmp_path, loader=Batches(bad=(0, 1)), max_skipped_steps=1)
    trainer.load_state_dict({"iteration": 0, "skipped_steps": 1, "hooks": {}})
    with pytest.raises(RunFailure, match="after 1 skipped steps"):
        trainer.train(1, 2)


def test_two_processes_reduce_gradients_once_per_step_and_take_the_step_of_one_process_with_four_parts(tmp_path):
    run_group(_train_in_group, str(tmp_path), processes=2, log=tmp_path / "log.txt")
    results = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in range(2)]
    quarters = [[sample] for sample in Batches().batch(0)]
    expected = gradient(Regression(), quarters)
    for result in results:
        torch.testing.assert_close(torch.tensor(result["step"]), expected, rtol=1e-5, atol=1e-6)
        assert result["reductions"] == 1
        assert result["norm"] == pytest.approx(expected.norm().item(), rel=1e-5)


def _train_in_group(folder: str) -> None:
    run_processes(plan_launch("cpu"), _count_reductions, folder)


def _count_reductions(folder: str) -> None:
    from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook

    rank = torch.distributed.get_rank()
    reduced, parallel = [], DistributedDataParallel(Regression())

    def count(state, bucket):
        reduced.append(bucket.is_last())
        return allreduce_hook(state, bucket)

    parallel.register_comm_hook(torch.distributed.group.WORLD, count)
    trainer = make_trainer(folder, parallel, Batches(share=slice(2 * rank, 2 * rank + 2)), accumulate=2)
    step = step_taken(trainer)
    # of the buckets that gradients travel in, the last one marks a complete reduction
    result = {"step": step.tolist(), "reductions": sum(reduced), "norm": trainer.gradient_norm}
    with open(f"{folder}/rank{rank}.json", "w") as stream:
        json.dump(result, stream)
