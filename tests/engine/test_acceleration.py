"""Speed-ups keep the losses, and a run goes on without those that fail."""

import copy
import json
import logging
import shutil
import time

import pytest
import torch
from torch import nn
from torch._dynamo.backends.common import aot_autograd

from tests.engine.conftest import CONFIG
from xray_lazy.data.loaders import explained_worker_death
from xray_lazy.engine.acceleration import compile_parts, instantiate_optimizer, use_channels_last
from xray_lazy.engine.run import RunOptions, run
from xray_lazy.errors import RunFailure, UserError

ADAMW = "torch.optim.AdamW"
# float32 sums in another order
TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}


class Model(nn.Module):
    """A backbone of two stages and a head, which gives a loss."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.backbone = nn.Sequential(self.stage(3), self.stage(8))
        self.head = nn.Linear(8, 1)

    @staticmethod
    def stage(channels):
        return nn.Sequential(nn.Conv2d(channels, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())

    def forward(self, images):
        return self.head(self.backbone(images).mean((2, 3))).square().mean()


class ViewOfFeatures(Model):
    def forward(self, images):
        features = self.backbone(images)
        flat = features.view(len(features), -1)  # not possible with channels last
        return self.head(flat.view(len(features), 8, -1).mean(2)).square().mean()


def losses_of(model, optimizer=None, steps=4):
    """Of some steps of training on images of several sizes."""
    optimizer = optimizer or torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for step in range(steps):
        images = torch.randn(2, 3, 6 + step, 8 + 2 * step, generator=torch.Generator().manual_seed(step))
        loss = model(images)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return torch.tensor(losses)


@pytest.fixture
def warnings():
    """Messages of the module's log: a run of another test may have kept it from pytest's own fixture."""
    messages = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    logger = logging.getLogger("xray_lazy.engine.acceleration")
    logger.addHandler(handler)
    yield messages
    logger.removeHandler(handler)


@pytest.fixture(autouse=True)
def forget_compiled_code():
    torch.compiler.reset()


def failing_compiler(graph, inputs):
    raise NotImplementedError("no such kernel")


BACKENDS = {
    "fails_forward": failing_compiler,
    "fails_backward": aot_autograd(fw_compiler=lambda graph, inputs: graph.forward, bw_compiler=failing_compiler),
}
for backend_name, compiler in BACKENDS.items():
    torch._dynamo.register_backend(compiler, name=backend_name)


def test_a_compiled_part_keeps_losses_and_names(warnings):
    model = Model()
    compile_parts(model, ["backbone"], backend="aot_eager")
    torch.testing.assert_close(losses_of(model), losses_of(Model()), **TOLERANCE)
    assert model.state_dict().keys() == Model().state_dict().keys()
    assert model.backbone._compiled_call_impl is not None and warnings == []


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="torch's compiler for CPUs needs a C++ compiler")
def test_the_default_backend_keeps_losses(warnings):
    model = Model()
    compile_parts(model, ["backbone.0"], dynamic=False)
    torch.testing.assert_close(losses_of(model, steps=1), losses_of(Model(), steps=1), **TOLERANCE)
    assert warnings == []


@pytest.fixture
def group_of_one():
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def test_a_compiled_part_is_cut_where_gradients_go_to_other_processes_while_the_rest_is_computed(group_of_one):
    graphs = []

    @torch._dynamo.register_backend(name="counts_graphs")
    def count(graph, inputs):
        graphs.append(graph)
        return aot_autograd(fw_compiler=lambda graph, inputs: graph.forward)(graph, inputs)

    model = nn.Sequential(nn.Sequential(*(nn.Linear(640, 640) for _ in range(6))), nn.Linear(640, 1))
    compile_parts(model, ["0"], backend="counts_graphs")
    parallel = nn.parallel.DistributedDataParallel(model, bucket_cap_mb=2)  # of 1.6 MB each
    parallel(torch.randn(2, 640)).sum().backward()
    assert len(graphs) > 2


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_part_that_does_not_compile_runs_without_it_after_one_warning(backend, warnings):
    model = Model()
    compile_parts(model, ["backbone"], backend=backend)
    losses = losses_of(model)
    torch.testing.assert_close(losses[:1], losses_of(Model())[:1], **TOLERANCE)
    assert losses[-1] < losses[0]
    assert len(warnings) == 1 and "train.compile fails for backbone" in warnings[0]


def test_a_fault_of_the_model_is_not_taken_for_one_of_the_compiler(warnings):
    model = Model()
    compile_parts(model, ["backbone"], backend="aot_eager")
    with pytest.raises(RuntimeError, match="channels"):
        model(torch.randn(2, 5, 8, 8))
    assert warnings == []


def test_what_lies_inside_of_a_compiled_part_is_compiled_with_it():
    model = Model()
    compile_parts(model, ["backbone*", "head"], backend="eager")
    assert [name for name, m in model.named_modules() if m._compiled_call_impl] == ["backbone", "head"]


def test_a_copy_of_a_compiled_model_is_a_plain_one():
    model = Model()
    compile_parts(model, ["backbone"], backend="eager")
    assert copy.deepcopy(model).backbone._compiled_call_impl is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"parts": ["bakbone"]}, r"no part 'bakbone'; its parts are backbone, head(.|\n)*did you mean backbone"),
        ({"parts": ["head"], "backend": "inductr"}, "inductr"),
        ({"parts": ["head"], "mode": "faster"}, "faster"),
    ],
)
def test_what_there_is_not_is_an_error_before_training(options, words):
    with pytest.raises(UserError, match=words):
        compile_parts(Model(), **options)


def test_channels_last_keeps_losses(warnings):
    model = Model()
    use_channels_last(model)
    assert model.backbone[1][0].weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(losses_of(model), losses_of(Model()), **TOLERANCE)
    assert warnings == []


def test_a_model_that_needs_the_usual_order_goes_back_to_it_after_one_warning(warnings):
    model = ViewOfFeatures()
    use_channels_last(model)
    torch.testing.assert_close(losses_of(model), losses_of(ViewOfFeatures()), **TOLERANCE)
    assert len(warnings) == 1 and "train.channels_last fails for ViewOfFeatures" in warnings[0]


def test_the_death_of_a_reader_during_a_step_ends_the_run_instead_of_the_speed_up(warnings):
    model = Model()
    use_channels_last(model)
    batches = iter(torch.utils.data.DataLoader(torch.randn(50, 3, 8, 8), batch_size=2, num_workers=1))
    images = next(batches)
    (reader,) = batches._workers

    def kill_reader(module, inputs):
        reader.kill()
        time.sleep(60)  # the signal of its death ends this

    handle = model.head.register_forward_pre_hook(kill_reader)
    with pytest.raises(RunFailure, match="a process that reads images died"), explained_worker_death():
        model(images)
    handle.remove()
    model(images)
    assert model.backbone[1][0].weight.is_contiguous(memory_format=torch.channels_last) and warnings == []


def test_a_model_of_3d_convolutions_has_no_channels_last(warnings):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv3d(3, 4, 3))
    use_channels_last(model)
    assert model[0].weight.is_contiguous() and len(warnings) == 1


@pytest.mark.parametrize("name", ["SGD", "AdamW"])
def test_a_fused_optimizer_keeps_losses(name, warnings):
    losses = []
    for fused in (None, True):
        model = Model()
        node = {"_target_": f"torch.optim.{name}", "params": [{"params": list(model.parameters())}], "lr": 0.01}
        losses.append(losses_of(model, instantiate_optimizer({**node, "fused": fused})))
    torch.testing.assert_close(losses[1], losses[0], **TOLERANCE)
    assert warnings == []


@pytest.mark.parametrize("options", [{"_target_": "torch.optim.SGD", "momentum": 0.9}, {"_target_": ADAMW}])
@pytest.mark.parametrize("fused", [None, True])
def test_a_step_that_the_loss_scaler_leaves_out_is_no_call_of_the_optimizer(options, fused):
    weight = nn.Parameter(torch.ones(5))
    optimizer = instantiate_optimizer({**options, "params": [{"params": [weight]}], "lr": 0.01, "fused": fused})
    scaler, calls = torch.amp.GradScaler("cpu"), []
    optimizer.register_step_post_hook(lambda *_: calls.append(weight.tolist()))
    for factor in (float("inf"), 1.0, float("inf"), 1.0):
        optimizer.zero_grad()
        scaler.scale(weight.sum() * factor).backward()
        scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
    assert len(calls) == 2 and weight.isfinite().all()


def test_an_optimizer_that_refuses_fused_runs_without_it(warnings):
    node = {"_target_": "torch.optim.SGD", "params": [{"params": list(Model().parameters())}], "lr": 0.1}
    optimizer = instantiate_optimizer({**node, "foreach": True, "fused": True})
    assert not optimizer.defaults["fused"] and len(warnings) == 1 and "optimizer.fused fails" in warnings[0]


@pytest.mark.slow
def test_a_run_with_all_of_them_has_the_losses_of_one_without(output, tmp_path):
    folder, overrides = output
    short = [*overrides, "train.max_iter=2", "train.eval_period=0", "~hooks.prediction_pictures"]
    # all there are: rounding decides which of several with nearly equal scores are drawn
    short += ["model.proposal_generator.batch_size_per_image=10000", "model.roi_heads.batch_size_per_image=1000"]
    run(RunOptions(CONFIG, short))
    fast = tmp_path / "fast"
    compiled = ["train.compile.enabled=True", "train.compile.backend=aot_eager", "train.channels_last=True"]
    parts = "train.compile.parts=[backbone.bottom_up.res*]"
    run(RunOptions(CONFIG, [*short, *compiled, parts, "optimizer.fused=True", f"train.output_dir={fast}"]))
    losses = [[json.loads(line)["total_loss"] for line in (f / "metrics.json").open()] for f in (folder, fast)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    weights = [torch.load(f / "model_final.pth", weights_only=True)["model"] for f in (folder, fast)]
    assert weights[0].keys() == weights[1].keys()
