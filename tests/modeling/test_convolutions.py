"""Convolutions with the frozen norm behind them, and depthwise ones in half precision."""

import copy

import pytest
import timm
import torch
from timm.layers import FrozenBatchNormAct2d, freeze_batch_norm_2d
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from xray_lazy.modeling.convolutions import join_frozen_norms, keep_depthwise_in_float32

NORMS = (FrozenBatchNorm2d, FrozenBatchNormAct2d)


def frozen_network(name):
    """With norms that change something, as trained ones do; in float64, where rounding turns no unit on or off."""
    torch.manual_seed(0)
    network = freeze_batch_norm_2d(timm.create_model(name, features_only=True)).double()
    generator = torch.Generator().manual_seed(0)
    for part in network.modules():
        if isinstance(part, NORMS):
            for buffer in (part.weight, part.bias, part.running_mean, part.running_var):
                buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
    return network


# those with TensorFlow's padding, with norms of their own modules, in Sequentials, and before the convolution
@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "test_resnet", "test_byobnet", "test_efficientnet"])
def test_joined_norms_give_the_same_features_and_gradients_under_the_same_names(name):
    network = frozen_network(name)
    joined = copy.deepcopy(network)
    norms = sum(isinstance(part, NORMS) for part in network.modules())
    assert norms - join_frozen_norms(joined, NORMS) in (0, 1)  # the last one of a stem lies outside of it
    assert joined.state_dict().keys() == network.state_dict().keys()
    images = torch.rand(2, 3, 65, 96, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    maps, same = network(images)[-1], joined(images)[-1]
    torch.testing.assert_close(same, maps, rtol=1e-6, atol=1e-6 * maps.abs().max().item())
    for result in (maps, same):
        (result.square().mean() / maps.detach().square().mean()).backward()
    for (part, parameter), other in zip(network.named_parameters(), joined.parameters(), strict=True):
        if parameter.grad is not None:
            size = parameter.grad.abs().max().item()
            torch.testing.assert_close(other.grad, parameter.grad, rtol=1e-6, atol=1e-6 * size, msg=part)


def test_a_copy_has_weights_and_norms_of_its_own():
    network = frozen_network("test_resnet")
    join_frozen_norms(network, NORMS)
    images = torch.rand(1, 3, 64, 64, dtype=torch.float64)
    before = network(images)[-1]
    changed = copy.deepcopy(network)
    for value in changed.state_dict().values():
        value.mul_(1.5)
    assert torch.equal(network(images)[-1], before) and not torch.equal(changed(images)[-1], before)


@pytest.mark.parametrize(
    ("groups", "stride", "is_frozen", "dtype"),
    [
        (8, 1, False, torch.float32),
        (8, 2, True, torch.float32),
        (8, 1, True, torch.bfloat16),
        (1, 2, False, torch.bfloat16),
    ],
    ids=["depthwise", "with a stride", "frozen filters", "other"],
)
def test_depthwise_convolutions_that_are_slow_at_their_gradient_stay_in_float32(groups, stride, is_frozen, dtype):
    layers = nn.Sequential(nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 3, stride, groups=groups))
    layers[1].requires_grad_(not is_frozen)
    keep_depthwise_in_float32(layers)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        learning = layers(torch.rand(1, 8, 9, 9))
        with torch.no_grad():
            evaluated = layers(torch.rand(1, 8, 9, 9))
    assert learning.dtype == dtype and evaluated.dtype == torch.bfloat16
    learning.sum().backward()
    assert layers[0].weight.grad.abs().sum() > 0
