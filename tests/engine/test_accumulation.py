"""A batch in micro-batches has the losses and gradients of the whole, whatever its images have to count."""

import types

import pytest
import torch
from detectron2.config import instantiate
from detectron2.layers import FrozenBatchNorm2d
from detectron2.utils import comm
from torch.nn.parallel import DistributedDataParallel

from projects.sparse_rcnn.tests.tiny_sparse_rcnn import image, tiny_model
from tests.engine.conftest import CONFIG
from tests.engine.quick_processes import run_group
from tests.lively_model import build_lively_model
from xray_lazy.config import load_config
from xray_lazy.engine.checkpoint import Checkpointer
from xray_lazy.engine.hooks.validation_loss import mean_losses
from xray_lazy.engine.precision import Precision
from xray_lazy.engine.processes.launch import plan_launch, run_processes
from xray_lazy.engine.trainer import Trainer

EXACT = {"rtol": 1e-5, "atol": 1e-5}


@pytest.fixture(autouse=True)
def one_thread():
    """Sums in the order of the other processes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def mask_rcnn(**model):
    cfg = load_config(CONFIG)
    cfg.dataloader.train.total_batch_size = 4
    for part in (cfg.model.backbone.bottom_up.stem, *cfg.model.backbone.bottom_up.stages):
        part.norm = "FrozenBN"  # batch norm sees the micro-batch
    for part, values in model.items():
        cfg.model[part].update(values)
    batch = next(instantiate(cfg.dataloader.train).batches(0))  # this process's part
    if comm.get_rank() == comm.get_world_size() - 1:
        # very different numbers of objects, of proposals and of masks
        batch[-1]["instances"] = batch[-1]["instances"][:0]
    return build_lively_model(cfg), batch


def sparse_rcnn(**variant):
    batch = [image(objects=count, seed=seed, masks=True) for seed, count in enumerate([7, 0, 2, 1])]
    return tiny_model(**variant), batch[comm.get_rank() :: comm.get_world_size()]


def with_own_box_predictor():
    """Of a class that counts nothing, while the masks are counted."""
    from detectron2.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers

    model, batch = mask_rcnn()
    losses = type("OwnPredictor", (type(model.roi_heads.box_predictor),), {"losses": FastRCNNOutputLayers.losses})
    model.roi_heads.box_predictor.__class__ = losses
    return model, batch


MODELS = {
    "Mask R-CNN": mask_rcnn,
    "Mask R-CNN that draws few": lambda: mask_rcnn(roi_heads={"batch_size_per_image": 3}),
    "Mask R-CNN that draws all": lambda: mask_rcnn(roi_heads={"batch_size_per_image": 500}),
    "Sparse R-CNN": sparse_rcnn,
    "Sparse R-CNN with masks": lambda: sparse_rcnn(masks=True),
    "Sparse R-CNN with softmax": lambda: sparse_rcnn(softmax=True),
    "Sparse R-CNN with few proposals": lambda: sparse_rcnn(softmax=True, overrides=["model.num_proposals=3"]),
}


def step(folder, make, accumulate):
    """Losses and gradients of one step of the real trainer."""
    model, batch = make()
    trainer = Trainer(
        DistributedDataParallel(model, find_unused_parameters=True) if comm.get_world_size() > 1 else model,
        torch.optim.SGD(model.parameters(), lr=1e-9),
        types.SimpleNamespace(total_batch_size=4, batches=lambda *_: (part for part in [batch])),
        Precision("cpu"),
        Checkpointer(model, folder),
        hooks={},
        writers={},
        evaluate=types.SimpleNamespace(),
        accumulate=accumulate,
    )
    trainer.train(0, 1)
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {name: torch.tensor(loss) for name, loss in trainer.last_losses.items()}, gradients


def assert_same(ours, reference):
    for values, expected in zip(ours, reference, strict=True):
        assert values.keys() == expected.keys()
        for name, value in expected.items():
            scale = value.abs().max().clamp(min=1)  # sums in another order
            torch.testing.assert_close(values[name] / scale, value / scale, **EXACT, msg=name)


@pytest.mark.parametrize("accumulate", [2, 4])
@pytest.mark.parametrize("name", MODELS)
def test_micro_batches_weigh_as_in_the_whole_batch(name, accumulate, tmp_path):
    assert_same(step(tmp_path, MODELS[name], accumulate), step(tmp_path, MODELS[name], 1))


def test_two_processes_with_micro_batches_are_as_one_without(tmp_path):
    run_group(launch, str(tmp_path), processes=2, log=tmp_path / "log.txt")
    for name in ("Mask R-CNN", "Sparse R-CNN"):
        assert_same(torch.load(tmp_path / f"{name}.pth"), step(tmp_path, MODELS[name], 1))


def launch(folder):
    run_processes(plan_launch("cpu"), train_share, folder)


def train_share(folder):
    for name in ("Mask R-CNN", "Sparse R-CNN"):
        result = step(folder, MODELS[name], 2)
        if comm.is_main_process():
            torch.save(result, f"{folder}/{name}.pth")


def test_counting_leaves_no_trace(tmp_path):
    """Neither in batch norm nor in the log; draws and dropout of the pass that trains are those that were counted."""
    seen = []

    def make():
        cfg = load_config(CONFIG)
        cfg.dataloader.train.total_batch_size = 4
        torch.manual_seed(0)
        model = instantiate(cfg.model)
        model.backbone.register_forward_hook(lambda *_: seen.append(torch.rand(()).item()))
        return model, next(instantiate(cfg.dataloader.train).batches(0))

    model, batch = make()
    norm = next(m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d))
    seen.clear()
    step(tmp_path, lambda: (model, batch), 2)
    assert norm.num_batches_tracked == 2
    assert seen[:2] == seen[2:] and seen[0] != seen[1]
    assert not any(isinstance(m, FrozenBatchNorm2d) for m in model.modules())


def test_the_loss_of_a_head_of_ones_own_is_counted_in_a_pass_of_the_whole_model(tmp_path):
    losses, _ = step(tmp_path, with_own_box_predictor, 2)
    whole, _ = step(tmp_path, with_own_box_predictor, 1)
    torch.testing.assert_close(losses["loss_mask"], whole["loss_mask"], **EXACT)


@pytest.mark.parametrize("name", ["Mask R-CNN", "Sparse R-CNN"])
def test_the_validation_loss_is_that_of_the_whole_batch(name):
    model, batch = MODELS[name]()
    model.train()
    for images in (batch, batch[:3]):
        whole, parts = (mean_losses(model, [(images, 1)], Precision("cpu"), accumulate) for accumulate in (1, 2))
        assert parts == pytest.approx(whole, rel=1e-5)
