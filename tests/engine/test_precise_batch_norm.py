"""Precise batch norm: the statistics themselves, and that training does not notice."""

import copy

import pytest
import torch
from detectron2.layers import FrozenBatchNorm2d
from torch import nn

from tests.engine.test_run import assert_same_weights, lines_of, losses_of, start, weights_of
from xray_lazy.engine.hooks.precise_batch_norm import batch_norm_layers, update_statistics

ON = ["hooks.precise_batch_norm.num_batches=3"]


def statistics_of(path):
    return {n: v for n, v in weights_of(path).items() if n.endswith(("running_mean", "running_var"))}


def test_statistics_are_those_of_all_batches_together():
    torch.manual_seed(0)
    layer = nn.BatchNorm2d(3, momentum=0.3)
    layer(torch.randn(2, 3, 4, 4))  # what was averaged before does not count
    batches = [torch.randn(4, 3, 16, 16) * (1 + number) + number for number in range(5)]
    counted = layer.num_batches_tracked.clone()
    update_statistics(layer, batch_norm_layers(layer), iter(batches))
    everything = torch.cat(batches).transpose(0, 1).flatten(1)
    torch.testing.assert_close(layer.running_mean, everything.mean(1))
    torch.testing.assert_close(layer.running_var, everything.var(1), rtol=2e-3, atol=0)
    assert layer.momentum == 0.3 and torch.equal(layer.num_batches_tracked, counted)
    assert not layer._forward_hooks


def test_a_compiled_model_gets_its_statistics_too_and_is_not_compiled_anew():
    torch.compiler.reset()  # other tests compile nn.Sequential, too, and torch stops after some times
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    compiled, batch = copy.deepcopy(plain), torch.randn(8, 3, 8, 8)
    compilations = []

    def backend(graph, inputs):
        compilations.append(graph)
        return graph.forward

    compiled.compile(backend=backend)
    compiled(batch)
    for model in (plain, compiled):
        update_statistics(model, batch_norm_layers(model), iter([batch]))
    assert_same_weights(plain.state_dict() | {"1.num_batches_tracked": torch.tensor(1)}, compiled.state_dict())
    assert len(compilations) == 1


def test_a_layer_that_is_called_twice_gets_the_statistics_of_both_calls():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm2d(1)

        def forward(self, batch):
            return self.norm(batch), self.norm(batch + 10)

    torch.manual_seed(0)
    model, batch = Shared(), torch.randn(64, 1, 8, 8)
    update_statistics(model, batch_norm_layers(model), iter([batch]))
    assert model.norm.running_mean.item() == pytest.approx(5, abs=0.1)
    assert model.norm.running_var.item() == pytest.approx(26, abs=0.3)


def test_frozen_and_unused_layers_stay_as_they_are():
    frozen, unused = nn.BatchNorm2d(2).eval(), nn.BatchNorm2d(2)
    model = nn.Sequential(frozen, FrozenBatchNorm2d(2), nn.BatchNorm2d(2, track_running_stats=False))
    model.add_module("used", nn.BatchNorm2d(2))
    assert batch_norm_layers(model) == [model.used]
    update_statistics(model, [model.used, unused], iter([torch.randn(8, 2, 4, 4) + 3]))
    assert frozen.running_mean.eq(0).all() and unused.running_mean.eq(0).all() and unused.running_var.eq(1).all()
    assert model.used.running_mean.ne(0).all()


@pytest.mark.slow
def test_a_run_trains_to_the_same_weights_with_other_statistics(output, tmp_path):
    folder, overrides = output
    start(overrides)
    start([*overrides, *ON, f"train.output_dir={tmp_path / 'precise'}"])
    plain, precise = weights_of(folder / "model_final.pth"), weights_of(tmp_path / "precise" / "model_final.pth")
    assert losses_of(folder) == losses_of(tmp_path / "precise")
    statistics = statistics_of(folder / "model_final.pth").keys()
    assert statistics
    for name, value in plain.items():
        assert torch.equal(value, precise[name]) == (name not in statistics), name


def test_they_depend_on_the_weights_alone(output, tmp_path):
    """Not on what was averaged on the way: a run that computed them once has those of one that did so at every step."""
    folder, overrides = output
    start([*overrides, *ON])
    often = [f"train.output_dir={tmp_path / 'often'}", "train.checkpointer.period=1"]
    start([*overrides, *ON, *often])
    assert_same_weights(weights_of(folder / "model_final.pth"), weights_of(tmp_path / "often" / "model_final.pth"))


def test_they_are_there_before_evaluation_and_checkpoint(output):
    """Evaluated anew, a checkpoint has the metrics that were logged when it was written."""
    folder, overrides = output
    start([*overrides, *ON, "train.max_iter=2"])
    results = folder / "evaluation" / "tiny" / "iter_1" / "predictions.json"
    during = results.read_text()
    results.unlink()
    start([*overrides, f"train.init_checkpoint={folder / 'model_final.pth'}"], eval_only=True)
    assert results.read_text() == during
    assert "3 batches" in (folder / "log.txt").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_a_resumed_run_ends_with_the_weights_of_an_undisturbed_one(output, tmp_path, processes):
    folder, overrides = output
    overrides = [*overrides, *ON]
    start(overrides, processes)
    half = [*overrides, f"train.output_dir={tmp_path / 'half'}"]
    # stopped where no evaluation or checkpoint was due
    stop = "+hooks.stop={_target_: tests.engine.hooks_for_tests.StopAt, iteration: 2}"
    start([*half, stop], processes)
    assert max(losses_of(tmp_path / "half")) == 2
    start(half, processes, resume=True, overwrite=True)
    assert_same_weights(weights_of(folder / "model_final.pth"), weights_of(tmp_path / "half" / "model_final.pth"))


def test_two_processes_have_the_statistics_of_one(output, tmp_path):
    folder, overrides = output
    overrides = [*overrides, *ON, "train.max_iter=1"]
    start(overrides)
    start([*overrides, f"train.output_dir={tmp_path / 'two'}"], processes=2)
    alone, shared = (statistics_of(path / "model_final.pth") for path in (folder, tmp_path / "two"))
    for name, value in alone.items():
        torch.testing.assert_close(value, shared[name], rtol=1e-3, atol=1e-4)


def test_averaged_weights_get_statistics_of_their_own(output):
    folder, overrides = output
    start([*overrides, *ON, "hooks.ema.decay=0.9", "train.max_iter=2"])
    own = statistics_of(folder / "model_final_ema.pth")
    assert any(not torch.equal(value, own[name]) for name, value in statistics_of(folder / "model_final.pth").items())
    assert (folder / "log.txt").read_text().count("took statistics of 3 batches") == 2
    assert "bbox_EMA/AP" in lines_of(folder)[-1]


def test_models_without_batch_norm_to_train_cost_nothing():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), FrozenBatchNorm2d(4))
    assert batch_norm_layers(copy.deepcopy(model)) == []
