"""One step on a GPU has the losses and gradients of one on the CPU, in each precision, whole or in micro-batches."""

import copy

import pytest
import torch
from detectron2.config import instantiate

from tests.gpu.experiments import EXPERIMENTS, built, drawing_all, losses_and_gradients
from tests.lively_model import build_lively_model
from xray_lazy.config import load_config
from xray_lazy.engine.acceleration import use_channels_last
from xray_lazy.engine.precision import Precision

# sums in another order
FLOAT32 = {"rtol": 2e-3, "atol": 2e-4}


def assert_close(ours, reference, **tolerance):
    """Values by name; gradients are compared by the length of their difference."""
    assert ours.keys() == reference.keys()
    for name, value in ours.items():
        difference, length = (value - reference[name]).norm(), reference[name].norm()
        assert difference <= tolerance["rtol"] * length + tolerance["atol"], (name, difference, length)


def test_a_step_is_that_of_the_cpu(config, device):
    overrides = drawing_all(config)
    reference_losses, reference_gradients = losses_and_gradients(*built(config, "cpu", overrides))
    losses, gradients = losses_and_gradients(*built(config, device, overrides))
    assert_close(losses, reference_losses, **FLOAT32)
    assert_close(gradients, reference_gradients, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_step_in_half_precision_is_near_that_in_float32(config, device, dtype):
    overrides = drawing_all(config)
    reference, _ = losses_and_gradients(*built(config, device, overrides))
    losses, gradients = losses_and_gradients(*built(config, device, overrides), Precision(device, True, dtype))
    assert_close(losses, reference, rtol=0.05, atol=0.02)
    assert all(torch.isfinite(gradient).all() for gradient in gradients.values())


def test_channels_last_keeps_the_step(config, device):
    overrides = drawing_all(config)
    reference, _ = losses_and_gradients(*built(config, device, overrides))
    model, batch = built(config, device, overrides)
    use_channels_last(model)
    losses, _ = losses_and_gradients(model, batch)
    assert_close(losses, reference, **FLOAT32)


def test_detections_are_those_of_the_cpu(device):
    cfg = load_config(EXPERIMENTS["mask_rcnn"])
    model = build_lively_model(cfg).eval()
    batch = next(iter(instantiate(cfg.dataloader.test)))
    with torch.no_grad():
        expected = model(batch)
        found = copy.deepcopy(model).to(device)(batch)
    for ours, reference in zip(found, expected, strict=True):
        ours, reference = ours["instances"].to("cpu"), reference["instances"]
        assert len(ours) == len(reference) > 0
        torch.testing.assert_close(ours.scores, reference.scores, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(ours.pred_boxes.tensor, reference.pred_boxes.tensor, rtol=1e-3, atol=0.02)
        assert torch.equal(ours.pred_classes, reference.pred_classes)
        assert (ours.pred_masks == reference.pred_masks).float().mean() > 0.999
