"""Batch norm of two processes is that of one with both of their parts: outputs, gradients, running statistics."""

import copy
import logging

import pytest
import torch
from detectron2.layers import FrozenBatchNorm2d, NaiveSyncBatchNorm
from timm.layers import BatchNormAct2d
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from tests.engine.quick_processes import run_group
from xray_lazy.engine.processes.launch import plan_launch, run_processes
from xray_lazy.modeling import synchronised_batch_norm
from xray_lazy.modeling.synchronised_batch_norm import SyncBatchNorm, synchronise_batch_norm

LAYERS = {
    "plain": lambda: nn.BatchNorm2d(3),
    "detectron2's synchronised": lambda: NaiveSyncBatchNorm(3),
    "torch's synchronised": lambda: nn.SyncBatchNorm(3),
    "one dimension": lambda: nn.BatchNorm1d(3),
    "no factors, mean over all batches": lambda: nn.BatchNorm2d(3, affine=False, momentum=None),
    "no statistics": lambda: nn.BatchNorm2d(3, track_running_stats=False),
    "with activation": lambda: BatchNormAct2d(3),
    "evaluated": lambda: nn.BatchNorm2d(3).eval(),
}
NOTHING = "empty parts"
SIZES = [3, 5]  # of the processes' parts


def parts_of(name):
    random = torch.Generator().manual_seed(0)
    size = (3, 4) if name == "one dimension" else (3, 4, 6)
    # far from zero, as features may be
    parts = (10 + (1 + number) * torch.randn(count, *size, generator=random) for number, count in enumerate(SIZES))
    return [part.requires_grad_() for part in parts]


def used(layer, part):
    """Layer, its output, and the gradients of a sum over outputs, after two batches."""
    layer(part.detach() - 1)
    output = layer(part)
    (output * torch.linspace(0, 1, output[0].numel()).view_as(output[0])).sum().backward()
    return {
        "output": output.detach(),
        "input's gradient": part.grad,
        "gradients": {n: p.grad for n, p in layer.named_parameters()},
        "state": layer.state_dict(),
    }


def use_in_group(folder):
    rank, results = torch.distributed.get_rank(), {}
    for name, make in LAYERS.items():
        layer = nn.Sequential(make())
        synchronise_batch_norm(layer)
        results[name] = used(layer, parts_of(name)[rank])
        for gradient in results[name]["gradients"].values():
            torch.distributed.all_reduce(gradient)
    layer = nn.Sequential(nn.BatchNorm2d(3))
    synchronise_batch_norm(layer)
    layer(torch.zeros(0, 3, 4, 6, requires_grad=True)).sum().backward()
    results[NOTHING] = {"state": layer.state_dict(), "gradients": [p.grad for p in layer.parameters()]}
    torch.save(results, f"{folder}/{rank}.pth")


def launch(folder):
    run_processes(plan_launch("cpu"), use_in_group, folder)


@pytest.fixture(scope="module")
def of_two_processes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    run_group(launch, str(folder), processes=2, log=folder / "log.txt")
    return [torch.load(folder / f"{rank}.pth") for rank in range(2)]


@pytest.mark.parametrize("name", LAYERS)
def test_two_processes_are_as_one(name, of_two_processes):
    whole = torch.cat([part.detach() for part in parts_of(name)]).requires_grad_()
    expected, close = used(nn.Sequential(LAYERS[name]()), whole), {"rtol": 1e-4, "atol": 1e-4}
    for rank, shared in enumerate(result[name] for result in of_two_processes):
        for key in ("output", "input's gradient"):
            torch.testing.assert_close(shared[key], expected[key].split(SIZES)[rank], **close)
        for key in ("gradients", "state"):
            torch.testing.assert_close(shared[key], expected[key], **close)


def test_where_no_process_has_anything_the_statistics_stay(of_two_processes):
    for result in of_two_processes:
        state, gradients = result[NOTHING]["state"], result[NOTHING]["gradients"]
        assert torch.equal(state["0.running_mean"], torch.zeros(3))
        assert torch.equal(state["0.running_var"], torch.ones(3))
        assert all(torch.equal(gradient, torch.zeros(3)) for gradient in gradients)


def test_alone_and_in_half_precision_it_is_batch_norm():
    layer = nn.Sequential(nn.BatchNorm2d(3))
    other = copy.deepcopy(layer)
    synchronise_batch_norm(other)
    part = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer(part), other(part))
    assert layer.state_dict().keys() == other.state_dict().keys()


def test_an_empty_part_in_half_precision_has_statistics_of_the_type_of_others(monkeypatch):
    taken = []
    monkeypatch.setattr(synchronised_batch_norm, "world_size", lambda: 2)
    monkeypatch.setattr(nn.SyncBatchNorm, "forward", lambda layer, part: taken.append(part.dtype) or part)
    with FakeTensorMode():  # on a GPU that needs not be there
        for count in (0, 2):
            SyncBatchNorm(3)(torch.empty(count, 3, 4, 4, dtype=torch.bfloat16, device="cuda"))
    assert taken == [torch.float32, torch.bfloat16]


def test_frozen_layers_stay_and_unknown_kinds_are_told_of(caplog):
    class OwnNorm(nn.BatchNorm2d):
        pass

    model = nn.Sequential(FrozenBatchNorm2d(2), nn.InstanceNorm2d(2), OwnNorm(2), OwnNorm(2), nn.BatchNorm2d(2))
    logging.getLogger("xray_lazy").addHandler(caplog.handler)
    synchronise_batch_norm(model)
    logging.getLogger("xray_lazy").removeHandler(caplog.handler)
    assert [type(layer) for layer in model] == [FrozenBatchNorm2d, nn.InstanceNorm2d, OwnNorm, OwnNorm, SyncBatchNorm]
    assert len({record.getMessage() for record in caplog.records}) == 1 and "OwnNorm" in caplog.text
