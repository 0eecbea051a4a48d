"""Processes do without a speed-up alike, also where it fails in one of them only."""

import logging

import pytest
import torch
from torch import nn

from tests.engine.quick_processes import run_group
from tests.engine.small_training import SmallModel, train_small
from xray_lazy.engine.acceleration import compile_parts, use_channels_last
from xray_lazy.engine.processes.launch import plan_launch, run_processes
from xray_lazy.modeling.batch_counts import mean_count
from xray_lazy.modeling.synchronised_batch_norm import synchronise_batch_norm


def failing_in_second_process(graph, inputs):
    if torch.distributed.is_initialized() and torch.distributed.get_rank() == 1:
        raise NotImplementedError("no such kernel")
    return graph.forward


graphs = []


def counting_graphs(graph, inputs):
    graphs.append(graph)
    return graph.forward


torch._dynamo.register_backend(failing_in_second_process, name="fails_in_second_process")
torch._dynamo.register_backend(counting_graphs, name="counts_graphs_of_trials")


class Normed(SmallModel):
    """With exchanges before and behind what is sped up; the second process may not work channels last."""

    def __init__(self, view=False):
        super().__init__()
        self.view = view
        self.body = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), nn.Conv2d(3, 3, 1))
        synchronise_batch_norm(self)

    def forward(self, batch):
        inputs = torch.stack([sample["input"] for sample in batch])[..., None, None].expand(-1, -1, 4, 5)
        features = self.body(self.norm(inputs))
        if self.view and torch.distributed.get_rank() == 1:
            features.view(-1)  # not possible with channels last
        targets = torch.stack([sample["target"] for sample in batch])
        loss = (self.layer(features.mean((2, 3))) - targets).square().sum()
        return {"loss": loss / mean_count(len(batch), loss.device)}


def compiled():
    model = Normed()
    compile_parts(model, ["body"], backend="fails_in_second_process")
    return model


def channels_last():
    model = Normed(view=True)
    use_channels_last(model)
    return model


def wide():
    model = Normed()
    # the one in the middle alone fills the first bucket of gradients, which is of 1 MiB
    model.body = nn.Sequential(nn.Conv2d(3, 600, 1), nn.ReLU(), nn.Conv2d(600, 600, 1), nn.Conv2d(600, 3, 1))
    compile_parts(model, ["body"], backend="counts_graphs_of_trials")
    return model


CASES = {"compile": compiled, "wide": wide, "channels_last": channels_last, "plain": Normed}


def train_each(folder):
    results, messages = {}, []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    logging.getLogger("xray_lazy.engine.acceleration").addHandler(handler)
    for name, make in CASES.items():
        model = make()
        train_small(f"{folder}/{name}", {}, 3, model=model)
        left = [m for m in model.modules() if m._compiled_call_impl is not None]
        order = model.body[0].weight.stride()
        results[name] = model.state_dict(), len(left), order, list(messages)
        results["graphs"] = len(graphs)
        messages.clear()
    torch.save(results, f"{folder}/{torch.distributed.get_rank()}.pth")


def launch(folder):
    run_processes(plan_launch("cpu"), train_each, folder)


@pytest.fixture(scope="module")
def of_two_processes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    run_group(launch, str(folder), processes=2, log=folder / "log.txt")
    return [torch.load(folder / f"{rank}.pth") for rank in range(2)]


@pytest.mark.parametrize("name", ["compile", "channels_last"])
def test_both_processes_go_on_without_what_fails_in_one(name, of_two_processes):
    for results in of_two_processes:
        (weights, left, order, messages), (plain, _, plain_order, _) = results[name], results["plain"]
        assert left == 0 and order == plain_order
        assert len(messages) == 1 and f"train.{name} fails for" in messages[0]
        for key, value in plain.items():
            torch.testing.assert_close(weights[key], value, rtol=1e-4, atol=1e-5, msg=key)


def test_what_is_compiled_gives_its_gradients_bucket_by_bucket(of_two_processes):
    for results in of_two_processes:
        _, left, _, messages = results["wide"]
        assert (left, messages) == (1, []) and results["graphs"] == 2


def failing_later(folder):
    from tests.engine.test_acceleration import Model
    from xray_lazy.engine.acceleration import try_together

    model = Model()
    compile_parts(model, ["backbone"], backend="eager")
    images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert try_together(model, lambda: model(images))
    # what comes of other processes' end is no fault of the compiler, nor may the pass be repeated in training
    model.backbone._compiled_call_impl.call = lambda *_: (_ for _ in ()).throw(error)
    for error in (RuntimeError("Connection closed by peer"), torch.distributed.DistNetworkError("broken pipe")):
        with pytest.raises(type(error)):
            model(images)
        assert model.backbone._compiled_call_impl is not None
    model.eval()
    with pytest.raises(torch.distributed.DistNetworkError):
        model(images)


def launch_failing_later(folder):
    run_processes(plan_launch("cpu"), failing_later, folder)


def test_a_pass_that_other_processes_take_part_in_is_not_repeated(tmp_path):
    run_group(launch_failing_later, str(tmp_path), processes=2, log=tmp_path / "log.txt")
