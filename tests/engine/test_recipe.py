"""Settings that are suggested for a data set."""

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, pairwise_iou
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from tests.data.coco_sets import reference, write_set
from xray_lazy.config import load_config, save_config
from xray_lazy.data.balance import RepeatFactors
from xray_lazy.data.datasets import load_datasets
from xray_lazy.engine.preflight.preflight import check_experiment
from xray_lazy.engine.recipe.anchor_fit import Anchors, best_overlaps, fit_anchors, read_anchors
from xray_lazy.engine.recipe.box_table import BoxTable
from xray_lazy.engine.recipe.chosen_sets import ChosenSets
from xray_lazy.engine.recipe.draft import Draft
from xray_lazy.engine.recipe.image_rules import advise_image_size
from xray_lazy.engine.recipe.length_rules import advise_batch, starting_point
from xray_lazy.engine.recipe.recipe import make_recipe
from xray_lazy.errors import UserError
from xray_lazy.modeling.anchors import AnchorGenerator

CONFIG = Path(__file__).with_name("tiny.py")
TEST_SIZE = "dataloader.test.mapper.augmentations.0.short_edge_length"
REPEATS, EMPTY = "xray_lazy.data.balance.RepeatFactors", "xray_lazy.data.balance.EmptyShare"
ANCHORS = Anchors(((16.0,), (32.0,), (64.0,)), (0.5, 1.0, 2.0), (4.0, 8.0, 16.0))


def write_boxes(folder: Path, images, classes=("gun", "knife"), masks=True) -> dict:
    """Write a set of (width, height, [(class, x, y, width, height), ...]); large files are smaller than it says."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    entries, annotations = [], []
    for number, (width, height, boxes) in enumerate(images, start=1):
        name = f"{number}.png"
        size = (height, width) if width <= 64 else (8, 8)
        cv2.imwrite(str(folder / "images" / name), np.full((*size, 3), 200, np.uint8))
        entries.append({"id": number, "file_name": name, "width": width, "height": height})
        for index, x, y, w, h in boxes:
            one = {"id": len(annotations) + 1, "image_id": number, "category_id": index + 1, "iscrowd": 0}
            one |= {"bbox": [x, y, w, h], "area": w * h}
            if masks:
                one["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
            annotations.append(one)
    categories = [{"id": index + 1, "name": name} for index, name in enumerate(classes)]
    content = {"images": entries, "annotations": annotations, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(content))
    return reference(folder)


def settings_of(recipe) -> dict:
    return {setting.key: setting.value for advice in recipe.advice for setting in advice.settings}


def reason_of(recipe, topic) -> str:
    return next(advice.reason for advice in recipe.advice if advice.topic == topic)


def recipe_for(names, *overrides, **options):
    return make_recipe(str(CONFIG), overrides, ChosenSets(names, names), **options)


def test_the_best_overlap_is_that_of_all_anchors_of_the_generator():
    random = np.random.default_rng(0)
    extent = random.uniform(6, 60, (40, 2))
    boxes = np.concatenate([random.uniform(0, 128 - extent), extent], 1)
    generator = AnchorGenerator(
        sizes=[list(level) for level in ANCHORS.sizes],
        aspect_ratios=list(ANCHORS.ratios),
        strides=list(map(int, ANCHORS.strides)),
        offset=0.0,
    )
    features = [torch.zeros(1, 1, 200 // int(stride), 200 // int(stride)) for stride in ANCHORS.strides]
    made = Boxes.cat(generator(features))
    corners = torch.tensor(np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1), dtype=torch.float32)
    expected = pairwise_iou(Boxes(corners), made).max(1).values.numpy()
    assert best_overlaps(boxes, ANCHORS) == pytest.approx(expected, abs=1e-4)


def test_fitted_anchors_overlap_more_and_keep_number_and_strides():
    random = np.random.default_rng(1)
    extent = random.normal([40, 12], 3, (200, 2)).clip(4)
    boxes = np.concatenate([random.uniform(0, 200, (200, 2)), extent], 1)
    fitted = fit_anchors(boxes, ANCHORS, 0.7)
    now, best = best_overlaps(boxes, ANCHORS), best_overlaps(boxes, fitted)
    assert (best >= 0.7).mean() > (now >= 0.7).mean() + 0.2
    assert fitted.strides == ANCHORS.strides and list(map(len, fitted.sizes)) == [1, 1, 1]
    assert len(fitted.ratios) == 3


@pytest.mark.parametrize(
    "node", [None, {}, {"sizes": 3}, {"sizes": [[8]], "aspect_ratios": [[1.0], [2.0]], "strides": [4, 8]}]
)
def test_anchors_of_another_form_are_left_alone(node):
    assert read_anchors(node) is None


def test_boxes_count_as_far_as_they_lie_in_the_image(tmp_path):
    names = write_boxes(tmp_path, [(100, 50, [(0, -10, 10, 30, 20), (1, 90, 40, 30, 30)]), (10, 10, [])])
    table = BoxTable.of(load_datasets(names))
    assert table.boxes.tolist() == [[0, 10, 20, 20], [90, 40, 10, 10]]
    assert table.per_image().tolist() == [2, 0]
    assert table.frequencies(2).tolist() == [0.5, 0.5]
    assert table.resized(25, 1000)[0].tolist() == [0, 5, 10, 10]
    assert table.common_sizes() == "100x50 (50%), 10x10 (50%)"


@pytest.mark.parametrize(
    ("size", "side", "short_edge"),
    [
        ((1920, 1080), 400, 288),  # large items: half of them 96 pixels wide at 1080 * 96 / 400 = 259
        ((1920, 1080), 56, 1080),  # small ones: not above the image's own size
        ((64, 30), 12, 48),  # the images are smaller than the config's size: that stays
    ],
)
def test_the_size_is_the_least_at_which_boxes_are_large_enough(tiny_set, tmp_path, size, side, short_edge):
    table = BoxTable.of(load_datasets(write_boxes(tmp_path, [(*size, [(0, 0, 0, side, side)])] * 3)))
    draft = Draft(load_config(CONFIG))
    assert advise_image_size(draft, table)[0] == short_edge == draft.get(TEST_SIZE)
    assert draft.get("dataloader.train.mapper.augmentations.0.short_edge_length") == [short_edge]


def test_one_huge_image_does_not_set_the_size(tiny_set, tmp_path):
    images = [(200, 100, [(0, 10, 10, 60, 60)])] * 30 + [(30_000, 20_000, [(1, 0, 0, 60, 60)])]
    advised = settings_of(recipe_for(write_boxes(tmp_path, images)))
    assert advised[TEST_SIZE] <= 100 and advised[TEST_SIZE.replace("short_edge_length", "max_size")] <= 200


def test_repeat_factors_are_those_of_the_balance(tiny_set, tmp_path):
    images = [(64, 48, [(0, 5, 5, 20, 15)])] * 46 + [(64, 48, [(1, 5, 5, 20, 15)])] * 4
    names = write_boxes(tmp_path, images)
    recipe = recipe_for(names)
    (balance,) = settings_of(recipe)["dataloader.train.sampler.balance"]
    assert balance["_target_"] == "xray_lazy.data.balance.RepeatFactors"
    times = RepeatFactors(balance["threshold"])(load_datasets(names), np.ones(50))
    assert times[:46] == pytest.approx(1) and f"knife {times[-1]:.1f}" in reason_of(recipe, "sampling")
    assert 2 <= times[-1] <= 4


def test_even_classes_are_not_repeated(tiny_set, tmp_path):
    images = [(64, 48, [(number % 2, 5, 5, 20, 15)]) for number in range(20)]
    names = write_boxes(tmp_path, images)
    recipe = recipe_for(names)
    assert "dataloader.train.sampler.balance" not in settings_of(recipe)
    assert "too even" in reason_of(recipe, "sampling")
    repeated = f"dataloader.train.sampler.balance=[{{_target_: {REPEATS}, threshold: 0.1}}]"
    file = tmp_path / "config.yaml"
    save_config(load_config(CONFIG, [repeated]), file)
    recipe = make_recipe(str(file), [], ChosenSets(names, names))
    assert settings_of(recipe)["dataloader.train.sampler.balance"] == []


def test_a_config_with_a_balance_of_its_own_keeps_it(tiny_set, tmp_path):
    names = write_boxes(tmp_path, [(64, 48, [(0, 5, 5, 20, 15)])] * 46 + [(64, 48, [(1, 5, 5, 20, 15)])] * 4)
    file = tmp_path / "config.yaml"
    save_config(load_config(CONFIG, [f"dataloader.train.sampler.balance=[{{_target_: {EMPTY}, share: 0.0}}]"]), file)
    recipe = make_recipe(str(file), [], ChosenSets(names, names))
    assert "dataloader.train.sampler.balance" not in settings_of(recipe)
    assert "of its own" in reason_of(recipe, "sampling")


def test_scanners_of_very_different_size_are_weighted(tiny_set, tmp_path):
    images = [(64, 48, [(number % 2, 5, 5, 20, 15)]) for number in range(20)]
    sets = [write_boxes(tmp_path / "large", images), write_boxes(tmp_path / "small", images[:4])]
    (balance,) = settings_of(recipe_for(sets))["dataloader.train.sampler.balance"]
    assert balance["weights"] == {"large": 4.5, "small": 2.0}


def test_most_images_are_not_empty_ones(tiny_set, tmp_path):
    images = [(64, 48, [(number, 5, 5, 20, 15)] if number < 2 else []) for number in range(20)]
    recipe = recipe_for(write_boxes(tmp_path, images))
    assert settings_of(recipe)["dataloader.train.sampler.balance"][0]["share"] == 0.5
    assert any("fewer than 10 instances: gun, knife" in caution for caution in recipe.cautions)


def test_boxes_without_masks_take_the_mask_branch_out(tiny_set, tmp_path):
    write_set(tmp_path, masks=False)
    recipe = recipe_for(reference(tmp_path))
    cfg = load_config(CONFIG, recipe.overrides)
    assert "mask_head" not in cfg.model.roi_heads and not cfg.dataloader.test.mapper.with_masks
    assert cfg.hooks.best_checkpoint.metric == "bbox/AP"
    assert check_experiment(cfg, world_size=1) == []


def test_what_a_person_gives_stays_and_the_rest_follows_it(tiny_set, tmp_path):
    write_set(tmp_path)
    recipe = recipe_for(reference(tmp_path), "train.max_iter=1000", f"{TEST_SIZE}=64")
    advised = settings_of(recipe)
    assert not {"train.max_iter", TEST_SIZE} & set(advised)
    assert advised["train.eval_period"] == 100
    assert "you gave train.max_iter" in reason_of(recipe, "length")
    assert not any(key.startswith("dataloader.train.mapper") for key in advised)  # their relation is the person's, too
    assert recipe.overrides[:2] == ("train.max_iter=1000", f"{TEST_SIZE}=64")


def test_lengths_in_epochs_stay_so(tiny_set, tmp_path):
    write_set(tmp_path)
    advised = settings_of(recipe_for(reference(tmp_path), "train.eval_period='1 epoch'"))
    assert "train.eval_period" not in advised
    with_epochs = make_recipe(str(CONFIG), ["++train.max_epochs=2"], ChosenSets(*[reference(tmp_path)] * 2))
    assert "train.max_iter" not in settings_of(with_epochs)


@pytest.mark.parametrize(
    ("gpus", "images", "memory", "batch", "accumulate"),
    [(1, 100, None, 8, 1), (3, 100, None, 9, 1), (16, 100, None, 16, 1), (1, 5, None, 5, 1), (1, 100, 4.0, 8, 4)],
)
def test_a_batch_divides_and_fits(tiny_set, tmp_path, gpus, images, memory, batch, accumulate):
    names = write_boxes(tmp_path, [(64, 48, [(0, 5, 5, 20, 15)])] * images)
    draft = Draft(load_config(CONFIG, ["dataloader.train.total_batch_size=8"]))
    advise_batch(draft, BoxTable.of(load_datasets(names)), gpus, memory, (800, 1333))
    assert draft.get("dataloader.train.total_batch_size") == batch
    assert draft.get("train.accumulate") == accumulate
    assert draft.get("train.scale_lr.enabled") == (batch != 8)
    assert draft.get("train.scale_lr.batch_size") == 8


def test_crowded_images_get_room_for_their_items(tiny_set, tmp_path):
    boxes = [(number % 2, number % 30, number // 30, 3, 3) for number in range(120)]
    advised = settings_of(recipe_for(write_boxes(tmp_path, [(64, 48, boxes)] * 2)))
    assert advised["model.roi_heads.box_predictor.test_topk_per_image"] == 200
    assert advised["dataloader.evaluator.max_detections"] == 200
    assert advised["model.roi_heads.batch_size_per_image"] == 512


@pytest.mark.parametrize(
    ("weights", "start"),
    [
        ("", "nothing"),
        (None, "nothing"),
        ("timm://convnext_tiny", "a backbone"),
        ("detectron2://ImageNetPretrained/MSRA/R-50.pkl", "a backbone"),
        ("detectron2://COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x/137849600/model_final_f10217.pkl", "a detector"),
        ("output/x/model_best.pth", "a detector"),
    ],
)
def test_the_weights_say_where_training_begins(weights, start):
    assert starting_point(weights) == start


def test_a_set_without_instances_is_refused(tiny_set, tmp_path):
    with pytest.raises(UserError, match="has no instance to train on, from whose size"):
        recipe_for(write_boxes(tmp_path, [(64, 48, [])] * 3))


def test_a_batch_that_a_person_gives_is_parted_as_it_is(tiny_set, tmp_path):
    names = write_boxes(tmp_path, [(64, 48, [(number % 2, 5, 5, 20, 15)]) for number in range(5)])
    advised = settings_of(recipe_for(names, "dataloader.train.total_batch_size=8", memory=1.0))
    assert advised["train.accumulate"] == 8 and "train.scale_lr.enabled" not in advised


def test_a_batch_that_a_person_gives_and_gpus_cannot_share_is_refused(tiny_set, tmp_path):
    write_set(tmp_path)
    with pytest.raises(UserError, match="spread evenly over 2 processes"):
        recipe_for(reference(tmp_path), "dataloader.train.total_batch_size=3", gpus=2)


def test_a_config_of_ones_own_that_lacks_what_is_advised_gets_the_rest(tiny_set, tmp_path):
    write_set(tmp_path, masks=False)
    recipe = recipe_for(reference(tmp_path), "~hooks.early_stopping", "~dataloader.train.sampler.balance")
    assert "sampling" not in [advice.topic for advice in recipe.advice]
    assert check_experiment(load_config(CONFIG, recipe.overrides), world_size=1) == []


@pytest.mark.parametrize(
    "name",
    [
        "xray/faster_rcnn_r50.py",
        "xray/mask_rcnn_r50_all_scanners.py",
        "xray/sparse_rcnn_r50.py",
        "projects/sparse_rcnn/sparse_rcnn_r50_300pro_3x.py",  # with several augmentations
        "projects/sparse_rcnn/sparse_rcnn_tiny_mask_demo.py",
    ],
)
def test_every_kind_of_config_gets_a_recipe(tmp_path, name):
    file = tmp_path / "config.py"
    file.write_text(f"from xray_lazy.config import get_config\n\nconfig = get_config({name!r})\n")
    file.write_text(file.read_text() + "globals().update(config)\ndel config\n")
    names = write_boxes(tmp_path, [(512, 300, [(0, 10, 10, 80, 40), (1, 90, 90, 30, 30)])] * 60, masks=False)
    recipe = make_recipe(str(file), [], ChosenSets(names, names))
    assert {"classes", "image size", "length", "batch"} <= {advice.topic for advice in recipe.advice}
    cfg = load_config(file, recipe.overrides)
    resize = cfg.dataloader.train.mapper.augmentations[-1 if "300pro" in name else 0]
    assert max(resize.short_edge_length) == OmegaConf.select(cfg, TEST_SIZE)
    assert not cfg.dataloader.train.mapper.with_masks


sizes = st.integers(1, 6000)
shares = st.floats(0.001, 1)


@st.composite
def wild_images(draw):
    images = []
    for _ in range(draw(st.integers(1, 12))):
        width, height = draw(sizes), draw(sizes)
        boxes = draw(st.lists(st.tuples(st.integers(0, 1), shares, shares, shares, shares), max_size=8))
        # inside of their image: a set whose boxes mostly reach beyond is refused
        pixels = [
            (c, x * width * 0.99, y * height * 0.99, w * (1 - x * 0.99) * width, h * (1 - y * 0.99) * height)
            for c, x, y, w, h in boxes
        ]
        images.append((width, height, pixels))
    whole = [(index, 0, 0, images[0][0], images[0][1]) for index in range(2)]  # no class is without an instance
    images[0] = (*images[0][:2], images[0][2] + whole)
    return images


# each example builds a model: to shrink a failing one would take minutes
@pytest.mark.slow
@settings(
    max_examples=8,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(wild_images(), st.booleans(), st.sampled_from([1, 2, 3]), st.sampled_from([None, 1.0, 24.0]))
def test_every_recipe_passes_the_check_of_a_training(tiny_set, tmp_path, images, masks, gpus, memory):
    folder = tmp_path / str(len(os.listdir(tmp_path)))
    names = write_boxes(folder, images, masks=masks)
    recipe = recipe_for(names, gpus=gpus, memory=memory, cores=2)
    assert check_experiment(load_config(CONFIG, recipe.overrides), world_size=gpus) == []
    json.dumps(recipe.as_json())
