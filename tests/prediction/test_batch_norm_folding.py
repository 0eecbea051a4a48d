"""Batch norms that become part of their convolutions."""

import copy

import pytest
import torch
from detectron2.layers import Conv2d, FrozenBatchNorm2d, NaiveSyncBatchNorm
from detectron2.modeling.backbone import FPN, BasicStem, ResNet
from torch import nn

from xray_lazy.prediction.batch_norm_folding import fold_batch_norm

RANGES = [("running_mean", -2, 2), ("running_var", 0.1, 3), ("weight", -2, 2), ("bias", -1, 1)]
KINDS = [nn.BatchNorm2d, FrozenBatchNorm2d, NaiveSyncBatchNorm, nn.SyncBatchNorm]


def with_statistics(model, seed=0):
    """Running statistics and weights far from 0 and 1, in eval mode."""
    random = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if hasattr(module, "running_mean"):
            for name, low, high in (
                ("running_mean", -2, 2),
                ("running_var", 0.1, 3),
                ("weight", -2, 2),
                ("bias", -1, 1),
            ):
                if getattr(module, name) is not None:
                    getattr(module, name).data.uniform_(low, high, generator=random)
    return model.eval().requires_grad_(False)


def assert_same_after_folding(model, image, count):
    plain = copy.deepcopy(model)
    assert fold_batch_norm(model) == count
    with torch.no_grad():
        torch.testing.assert_close(model(image), plain(image), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bias", [False, True])
def test_a_detectron2_convolution_takes_over_its_norm_and_keeps_its_activation(kind, bias):
    model = with_statistics(Conv2d(3, 8, 3, padding=1, groups=1, bias=bias, norm=kind(8), activation=nn.ReLU()))
    assert_same_after_folding(model, torch.randn(2, 3, 9, 7), 1)
    assert model.norm is None and not model.weight.requires_grad


@pytest.mark.parametrize("kind", [nn.BatchNorm2d, FrozenBatchNorm2d])
def test_a_norm_behind_a_convolution_in_a_sequence_is_folded(kind):
    model = nn.Sequential(nn.Conv2d(4, 8, 3, groups=2), kind(8), nn.ReLU(), nn.Conv2d(8, 8, 1), kind(8))
    assert_same_after_folding(with_statistics(model), torch.randn(1, 4, 8, 8), 2)


def test_a_whole_backbone_is_folded():
    stem = BasicStem(3, 64, norm="FrozenBN")
    bottom_up = ResNet(stem, ResNet.make_default_stages(18, norm="BN")[:2], out_features=["res2", "res3"])
    model = FPN(bottom_up, ["res2", "res3"], 8, norm="BN")
    norms = sum(isinstance(module, nn.BatchNorm2d | FrozenBatchNorm2d) for module in model.modules())
    assert norms > 10
    assert_same_after_folding(with_statistics(model), torch.randn(1, 3, 64, 64), norms)


def test_a_norm_without_learned_factors_is_folded():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, affine=False))
    assert_same_after_folding(with_statistics(model), torch.randn(1, 3, 5, 5), 1)


def test_what_is_not_a_constant_stays():
    in_training = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).train()
    of_the_batch = with_statistics(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, track_running_stats=False)))
    other_norm = with_statistics(nn.Sequential(nn.Conv2d(3, 4, 1), nn.GroupNorm(2, 4)))
    for model in (in_training, of_the_batch, other_norm):
        assert fold_batch_norm(model) == 0


def test_a_convolution_with_a_norm_for_each_of_its_places_stays():
    shared = nn.Conv2d(3, 4, 1)
    model = with_statistics(nn.ModuleList([nn.Sequential(shared, nn.BatchNorm2d(4)) for _ in range(2)]))
    assert fold_batch_norm(model) == 0


def test_a_norm_behind_an_activation_or_of_another_width_stays():
    activated = Conv2d(3, 4, 1, activation=nn.ReLU())
    assert fold_batch_norm(with_statistics(nn.Sequential(activated, nn.BatchNorm2d(4)))) == 0
    assert fold_batch_norm(with_statistics(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.BatchNorm2d(4)))) == 0
