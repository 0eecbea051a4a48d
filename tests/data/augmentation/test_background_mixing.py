"""Background mixing: other bags' things behind a bag's own, without their items and without edges."""

import cv2
import numpy as np
import pytest
from detectron2.structures import BoxMode

from tests.data.augmentation.conftest import as_image, empty_bag
from xray_lazy.data.augmentation.background_mixing import BackgroundMixing
from xray_lazy.data.augmentation.mixing import OtherRecords, Scene
from xray_lazy.errors import UserError

SIZE = (240, 320)


def others_of(image, annotations=()):
    record = {"annotations": list(annotations), "file_name": "other.png"}
    return OtherRecords([record], ("knife",), (1,), lambda record: image.copy())


def crowded_bag():
    """A bag full of stripes, (H, W, 3) uint8."""
    image = empty_bag(1, SIZE)
    for left in range(25, SIZE[1] - 30, 16):
        image[22:-22, left : left + 6] *= (0.9, 0.5, 0.3)
    return as_image(image)


def mixed(part, other, seed=0, annotations=()):
    scene = Scene(as_image(empty_bag(0, SIZE)), list(annotations))
    before = scene.image.copy()
    return before, part(scene, np.random.default_rng(seed), other)


def test_patches_darken_bags_only_and_annotations_stay():
    item = {"bbox": [100, 80, 50, 20], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 0, "iscrowd": 0}
    part = BackgroundMixing(1.0, strength=(0.5, 1.0))
    for seed in range(6):
        before, after = mixed(part, others_of(crowded_bag()), seed, [item])
        change = after.image.astype(int) - before
        assert after.annotations == [item]
        assert change.max() <= 0 and change.min() < -20
        outside = np.ones(SIZE, bool)
        outside[18:-18, 18:-18] = False
        assert (change[outside] == 0).all()


def test_patches_have_no_edges():
    other = np.full((*SIZE, 3), 240, np.uint8)
    other[20:-20, 20:-20] = 120  # one even thing: whatever changes sharply is the patch's own edge
    before, after = mixed(BackgroundMixing(1.0, patches=(1, 1), size=(0.4, 0.4), strength=(1, 1)), others_of(other), 1)
    smooth = cv2.GaussianBlur(after.image.astype(np.float32) - before, (0, 0), 1.5)[30:-30, 30:-30]
    assert np.abs(smooth).max() > 30
    assert max(np.abs(np.diff(smooth, axis=axis)).max() for axis in (0, 1)) < 12


def test_what_is_annotated_in_the_other_image_is_not_mixed_in():
    everywhere = {"bbox": [0, 0, SIZE[1], SIZE[0]], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 0, "iscrowd": 1}
    before, after = mixed(BackgroundMixing(1.0), others_of(crowded_bag(), [everywhere]))
    assert (before == after.image).all()
    left = everywhere | {"bbox": [0, 0, SIZE[1] // 2, SIZE[0]]}
    other = crowded_bag()
    other[:, SIZE[1] // 2 :] = 235  # nothing but what is annotated
    for seed in range(5):
        before, after = mixed(BackgroundMixing(1.0), others_of(other, [left]), seed)
        assert np.abs(after.image.astype(int) - before).max() <= 1


def test_images_of_any_size_are_mixed():
    part = BackgroundMixing(1.0)
    for size in ((50, 60), (700, 900)):
        other = as_image(empty_bag(2, size))
        before, after = mixed(part, others_of(other), 2)
        assert after.image.shape == before.shape
    tiny = Scene(np.full((6, 9, 3), 100, np.uint8), [])
    assert part(tiny, np.random.default_rng(0), others_of(crowded_bag())).image.shape == (6, 9, 3)


def test_draws_decide_all():
    part = BackgroundMixing(0.5)
    results = [mixed(part, others_of(crowded_bag()), seed)[1].image for seed in range(12)]
    again = [mixed(part, others_of(crowded_bag()), seed)[1].image for seed in range(12)]
    assert all((one == two).all() for one, two in zip(results, again, strict=True))
    plain = as_image(empty_bag(0, SIZE))
    assert 0 < sum((one == plain).all() for one in results) < 12


@pytest.mark.parametrize("values", [{"probability": 2}, {"patches": (0, 2)}, {"size": (0.5, 1.5)}, {"strength": (1,)}])
def test_values_that_mean_nothing_are_refused(values):
    with pytest.raises(UserError, match="background mixing"):
        BackgroundMixing(**values)
