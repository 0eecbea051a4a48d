"""White levels, transmissions and silhouettes: of drawn images with known ones, and of real scanners' where there."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from xray_lazy.data.augmentation.transmission import (
    put_behind,
    silhouette,
    silhouette_step,
    transmission,
    white_level,
)
from xray_lazy.data.image_files.image_file import read_image

REAL = Path(__file__).parents[4] / "shared" / "xray_boxes" / "images"
SCANNERS = "12345"


def bag(white=(255, 255, 255), size=(400, 600), box=(60, 50, 340, 500), lets_through=(0.8, 0.9, 0.95)):
    """A bag of one fabric with darker things in it, in a background of `white` with noise."""
    image = np.empty((*size, 3), np.float32)
    image[:] = white
    top, left, bottom, right = box
    image[top:bottom, left:right] *= lets_through
    middle = (top + bottom) // 2
    image[middle : middle + 40, left + 20 : left + 200] *= (0.9, 0.4, 0.2)
    image[top + 20 : top + 60, left + 30 : left + 130] *= (0.3, 0.5, 0.8)
    image += np.random.default_rng(0).normal(0, 1.5, image.shape)
    return image.clip(0, 255).round().astype(np.uint8)


@pytest.mark.parametrize("white", [(255, 255, 255), (227, 227, 227), (215, 228, 226), (236, 240, 239)])
def test_the_white_level_is_that_of_the_background(white):
    assert white_level(bag(white)) == pytest.approx(white, abs=2)


def test_a_brighter_frame_or_a_brighter_speck_is_no_background():
    image = bag((228, 229, 230))
    framed = cv2.copyMakeBorder(image, 3, 3, 3, 3, cv2.BORDER_CONSTANT, value=(255, 255, 255))
    assert white_level(framed) == pytest.approx([228, 229, 230], abs=2)
    black = cv2.copyMakeBorder(image, 20, 20, 20, 20, cv2.BORDER_CONSTANT, value=(0, 0, 0))
    assert white_level(black) == pytest.approx([228, 229, 230], abs=2)


def test_a_large_light_bag_is_no_background():
    image = bag((255, 255, 255), box=(10, 10, 390, 590), lets_through=(0.92, 0.93, 0.94))
    assert white_level(image) == pytest.approx([255, 255, 255], abs=2)


def test_an_image_without_background_has_the_white_level_of_its_brightest_values():
    image = np.full((100, 200, 3), (60, 120, 230), np.uint8)
    image[20:60, 20:60] //= 2
    assert white_level(image).tolist() == [60, 120, 230]
    assert white_level(np.zeros((50, 60, 3), np.uint8)).min() >= 1  # to divide by
    assert white_level(np.full((1, 1, 3), 240, np.uint8)).tolist() == [240] * 3


def test_products_of_transmissions_are_what_a_scan_of_both_things_shows():
    white = np.array([210, 220, 230])
    first, second = np.array([0.5, 0.7, 0.9]), np.array([0.8, 0.4, 0.6])
    image = np.full((40, 50, 3), white, np.uint8)
    image[10:30, 10:30] = (white * first).round()
    item = np.full((40, 50, 3), white, np.uint8)
    item[10:30, 20:40] = (white * second).round()
    both = image.copy()
    put_behind(both, transmission(item, white.astype(np.float32)))
    assert both[20, 15] == pytest.approx(white * first, abs=1)
    assert both[20, 25] == pytest.approx(white * first * second, abs=1.5)
    assert both[20, 35] == pytest.approx(white * second, abs=1)
    assert (both[0, 0] == white).all()  # where nothing is put, nothing changes


def test_putting_something_into_a_part_of_an_image_leaves_the_rest():
    image = np.full((20, 20, 3), 200, np.uint8)
    put_behind(image[5:10, 5:10], np.full((5, 5, 3), 127, np.uint8))
    assert image[7, 7].tolist() == [100, 100, 100]
    image[5:10, 5:10] = 200
    assert (image == 200).all()


def test_the_silhouette_is_the_bag_with_all_it_encloses():
    image = bag((230, 230, 230))
    step = silhouette_step(image.shape)
    bags = silhouette(image)
    assert bags.shape == image[::step, ::step].shape[:2]
    wanted = np.zeros(image.shape[:2], np.uint8)
    wanted[60:340, 50:500] = 1
    wanted = wanted[::step, ::step]
    assert (bags & wanted).sum() / (bags | wanted).sum() > 0.97
    hollow = np.full((400, 600, 3), 250, np.uint8)
    cv2.rectangle(hollow, (100, 80), (400, 300), (100, 120, 140), 6)
    assert silhouette(hollow)[190 // step, 250 // step] == 1


@pytest.mark.parametrize("size", [(400, 600), (1, 1), (3, 700), (900, 2)])
def test_nothing_in_the_tunnel_has_no_silhouette(size):
    assert not silhouette(np.full((*size, 3), 255, np.uint8)).any()


def test_a_frame_around_the_image_is_no_bag():
    image = cv2.copyMakeBorder(np.full((300, 500, 3), 250, np.uint8), 2, 2, 2, 2, cv2.BORDER_CONSTANT, value=(0, 0, 0))
    assert not silhouette(image).any()


@pytest.mark.parametrize("scanner", SCANNERS)
def test_real_scanners_have_white_backgrounds_around_their_bags(scanner):
    files = sorted(REAL.glob(f"{scanner}*"))[::12]
    if not files:
        pytest.skip("the real scans are not here")
    near, share = [], []
    for file in files:
        image = read_image(file)
        white = white_level(image)
        assert (white > 150).all() and np.ptp(white) <= 32
        step = silhouette_step(image.shape)
        bags = silhouette(image, white)
        share.append(bags.mean())
        background = transmission(image, white)[::step, ::step][bags == 0]
        near.append(np.median(background) if len(background) else 255)
    assert np.median(near) >= 250  # nothing lets all through
    assert 0.15 < np.median(share) < 0.95
