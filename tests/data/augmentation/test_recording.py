"""The same bag recorded on another day: gain, attenuation, noise and JPEG."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.augmentation.conftest import as_image, empty_bag
from xray_lazy.data.augmentation.recording import RandomJpeg, RandomScannerResponse, with_noise
from xray_lazy.errors import UserError


@pytest.fixture
def bag():
    return as_image(empty_bag())


def applied(augmentation, image, seed=0):
    np.random.seed(seed)
    return augmentation.get_transform(image).apply_image(image)


def test_a_response_of_ones_changes_nothing(bag):
    same = RandomScannerResponse(gain=(1, 1), attenuation=(1, 1), channels=0, noise=(0, 0))
    assert np.abs(applied(same, bag).astype(int) - bag).max() <= 1


def test_gain_scales_the_background_and_attenuation_leaves_it(bag):
    background = np.s_[:10, :10]
    dim = applied(RandomScannerResponse(gain=(0.9, 0.9), attenuation=(1, 1), channels=0, noise=(0, 0)), bag)
    assert dim[background].mean() == pytest.approx(0.9 * bag[background].mean(), abs=1)
    soft = applied(RandomScannerResponse(gain=(1, 1), attenuation=(1.5, 1.5), channels=0, noise=(0, 0)), bag)
    assert soft[background].mean() == pytest.approx(bag[background].mean(), abs=1.5)
    share = bag[120, 160] / 235
    assert soft[120, 160] == pytest.approx(235 * share**1.5, abs=3)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_what_lets_through_less_stays_darker(seed):
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2).repeat(8, axis=0)
    changed = applied(RandomScannerResponse(noise=(0, 0)), ramp, seed).astype(int)
    assert (np.diff(changed, axis=1) >= 0).all()


def test_noise_has_its_deviation_and_falls_with_the_root_of_the_intensity():
    for value, wanted in ((200, 4 * (200 / 255) ** 0.5), (50, 4 * (50 / 255) ** 0.5)):
        image = np.full((200, 300, 3), value, np.uint8)
        noisy = with_noise(image.copy(), 4.0, start=17).astype(float)
        assert noisy.std() == pytest.approx(wanted, rel=0.1)
        assert noisy.mean() == pytest.approx(value, abs=0.1)


def test_equal_draws_give_equal_images_and_leave_their_input_alone(bag):
    before = bag.copy()
    for augmentation in (RandomScannerResponse(), RandomJpeg()):
        first, again, other = (applied(augmentation, bag, seed) for seed in (1, 1, 2))
        assert np.array_equal(first, again) and not np.array_equal(first, other)
        assert first.shape == bag.shape and first.dtype == np.uint8
    assert np.array_equal(bag, before)


def test_jpeg_is_that_of_either_order_of_channels(bag):
    bgr, rgb = (applied(RandomJpeg((50, 50), image_format=order), bag) for order in ("BGR", "RGB"))
    turned = applied(RandomJpeg((50, 50), image_format="RGB"), bag[:, :, ::-1])[:, :, ::-1]
    assert np.array_equal(bgr, turned) and not np.array_equal(bgr, rgb)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1)])
def test_thin_images_are_taken(size):
    image = np.full((*size, 3), 120, np.uint8)
    assert applied(RandomScannerResponse(), image).shape == image.shape
    assert applied(RandomJpeg(), image).shape == image.shape


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: RandomScannerResponse(gain=(1.1, 0.9)),
        lambda: RandomScannerResponse(attenuation=(0, 1)),
        lambda: RandomScannerResponse(noise=(0, 100)),
        lambda: RandomScannerResponse(channels=1.5),
        lambda: RandomJpeg(quality=(0, 50)),
        lambda: RandomJpeg(quality=(50,)),
    ],
)
def test_ranges_that_mean_nothing_are_refused(wrong):
    with pytest.raises(UserError):
        wrong()
