"""torchvision's transforms of pixels among detectron2's augmentations."""

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from tests.data.augmentation.conftest import as_image, empty_bag
from xray_lazy.data.augmentation.torchvision_pixels import TorchvisionPixels
from xray_lazy.errors import UserError


def applied(part, image, seed=0, **options):
    np.random.seed(seed)
    return TorchvisionPixels([part], **options).get_transform(image).apply_image(image)


@pytest.fixture
def bag():
    return as_image(empty_bag())


def test_pixels_are_those_of_torchvision(bag):
    changed = applied(v2.RandomInvert(p=1.0), bag)
    assert np.array_equal(changed, 255 - bag)


def test_channels_reach_it_as_red_green_blue(bag):
    grey = applied(v2.Grayscale(num_output_channels=3), bag)
    wanted = v2.functional.rgb_to_grayscale(torch.from_numpy(bag[:, :, ::-1].copy()).permute(2, 0, 1))[0].numpy()
    assert np.array_equal(grey[..., 0], wanted)


def test_draws_come_from_numpys_state_and_leave_torchs_alone(bag):
    jitter, state = v2.ColorJitter(brightness=0.5, contrast=0.5), torch.get_rng_state()
    first, again, other = (applied(jitter, bag, seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("moving", [v2.RandomHorizontalFlip(p=1.0), v2.Resize((20, 20)), v2.RandomRotation((90, 90))])
def test_what_moves_things_is_refused(bag, moving):
    with pytest.raises(UserError, match="move what is in the image"):
        applied(moving, bag)


def test_other_types_and_other_objects_are_refused(bag):
    with pytest.raises(UserError, match=r"make torch\.float32"):
        applied(v2.ToDtype(torch.float32, scale=True), bag)
    with pytest.raises(UserError, match="no transform of torchvision"):
        TorchvisionPixels(["ColorJitter"])
