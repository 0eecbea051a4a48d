"""Threat image projection: items in bags, with boxes and masks that are where the items are."""

import json

import cv2
import numpy as np
import pytest
from detectron2.structures import BoxMode
from pycocotools import mask as mask_util

from tests.data.augmentation.conftest import as_image, empty_bag, write_bags
from xray_lazy.data.augmentation.bag_places import BagPlaces
from xray_lazy.data.augmentation.mixing import BringsItems, OtherRecords, Scene
from xray_lazy.data.augmentation.threat_cutting import cut_dataset
from xray_lazy.data.augmentation.threat_projection import ThreatProjection
from xray_lazy.data.datasets import load_datasets
from xray_lazy.data.image_reader import read_record
from xray_lazy.data.mapper import DetectionMapper
from xray_lazy.errors import UserError

SIZE = (480, 640)
STILL = {"scale": (1.0, 1.0), "rotation": 0.0, "quarter_turns": False, "mirror": False}


@pytest.fixture(scope="module")
def bags(tmp_path_factory):
    folder = write_bags(tmp_path_factory.mktemp("projection") / "bags")
    dataset = load_datasets({"json_file": str(folder / "set.json"), "image_root": str(folder / "images")})
    cut_dataset(dataset, folder.parent / "library", pixel_size=1.0)
    return dataset, str(folder.parent / "library")


@pytest.fixture
def others(bags):
    dataset, _ = bags
    return OtherRecords(dataset, dataset.class_names, dataset.trained_boxes, read_record)


@pytest.fixture
def library(bags):
    return bags[1]


def a_scene(annotations=(), seed=0):
    return Scene(as_image(empty_bag(seed, SIZE)), list(annotations))


def projected(part, others, seed=0, scene=None):
    scene = scene or a_scene()
    before = scene.image.copy()
    return before, part(scene, np.random.default_rng(seed), others)


def test_items_change_what_their_masks_cover_and_nothing_else(library, others):
    part = ThreatProjection(library, items=(2, 4), empty=1.0)
    for seed in range(5):
        before, after = projected(part, others, seed)
        assert len(after.annotations) >= 1
        covered = np.zeros(SIZE, np.uint8)
        for annotation in after.annotations:
            mask = mask_util.decode(annotation["segmentation"])
            left, top, width, height = annotation["bbox"]
            assert mask_util.toBbox(annotation["segmentation"]).tolist() == annotation["bbox"]
            assert annotation["bbox_mode"] == BoxMode.XYWH_ABS and annotation["area"] == mask.sum()
            assert left >= 20 and left + width <= SIZE[1] - 20 and top >= 20 and top + height <= SIZE[0] - 20
            covered |= mask
        darker = (after.image.astype(int) - before).min(2)
        near = cv2.dilate(covered, np.ones((9, 9), np.uint8))
        assert (darker[near == 0] == 0).all() and (darker <= 0).all()
        assert np.median(darker[covered > 0]) < -60


def test_an_item_lets_through_in_its_bag_what_it_lets_through_alone(library, others):
    part = ThreatProjection(library, items=(1, 1), empty=1.0, near_items=0.0, **STILL)
    before, after = projected(part, others)
    (annotation,) = after.annotations
    inner = cv2.erode(mask_util.decode(annotation["segmentation"]), np.ones((5, 5), np.uint8)) > 0
    share = after.image[inner] / before[inner]
    # the handle's or the blade's
    distance = [np.abs(share - shades).max(1) for shades in ((0.9, 0.6, 0.4), (0.8, 0.35, 0.2))]
    assert np.quantile(np.minimum(*distance), 0.95) < 0.08


def test_the_same_draws_give_the_same_and_others_give_another(library, others):
    part = ThreatProjection(library, empty=1.0)
    again = ThreatProjection(library, empty=1.0)
    projected(again, others, seed=7)  # what it did before plays no part
    first, second = projected(part, others, 3)[1], projected(again, others, 3)[1]
    assert (first.image == second.image).all() and first.annotations == second.annotations
    assert (projected(part, others, 4)[1].image != first.image).any()


def test_empty_and_occupied_bags_have_their_own_probabilities(library, others):
    with_item = [{"bbox": [300, 200, 40, 40], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 0, "iscrowd": 0}]
    crowd = [with_item[0] | {"iscrowd": 1}]
    part = ThreatProjection(library, empty=1.0, occupied=0.0)
    assert len(projected(part, others)[1].annotations) >= 1
    assert projected(part, others, scene=a_scene(with_item))[1].annotations == with_item
    assert len(projected(part, others, scene=a_scene(crowd))[1].annotations) >= 2  # a crowd region is no item
    part = ThreatProjection(library, empty=0.0, occupied=1.0)
    before, after = projected(part, others)
    assert not after.annotations and (before == after.image).all()
    after = projected(part, others, scene=a_scene(with_item))[1]
    assert len(after.annotations) >= 2 and after.annotations[0] == with_item[0]


def test_nothing_is_put_where_there_is_no_bag(library, others):
    part = ThreatProjection(library, empty=1.0)
    for image in (np.full((*SIZE, 3), 240, np.uint8), np.full((8, 5, 3), 240, np.uint8)):
        scene = Scene(image.copy(), [])
        assert not part(scene, np.random.default_rng(0), others).annotations
        assert (scene.image == image).all()


def test_an_item_larger_than_the_bag_is_left_out(library, others):
    part = ThreatProjection(library, empty=1.0, scale=(6.0, 6.0))
    before, after = projected(part, others, scene=Scene(as_image(empty_bag(0, (120, 160))), []))
    assert not after.annotations and (before == after.image).all()


def test_items_are_put_where_the_bag_lets_enough_through(library, others):
    image = as_image(empty_bag(0, SIZE))
    image[:, :320] //= 16  # the left half of the bag is nearly black
    part = ThreatProjection(library, items=(4, 4), empty=1.0, near_items=0.0, most_attenuation=1.8)
    put = [a for seed in range(6) for a in projected(part, others, seed, Scene(image.copy(), []))[1].annotations]
    assert put and min(a["bbox"][0] + a["bbox"][2] / 2 for a in put) > 315


def test_items_keep_off_what_is_annotated_and_off_each_other(library, others):
    box = {"bbox": [20, 20, 400, 440], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 0, "iscrowd": 0}
    part = ThreatProjection(library, items=(6, 6), occupied=1.0, near_items=0.0, most_overlap=0.0)
    for seed in range(4):
        new = projected(part, others, seed, a_scene([box]))[1].annotations[1:]
        masks = [mask_util.decode(annotation["segmentation"]) for annotation in new]
        assert new and all(annotation["bbox"][0] >= 418 for annotation in new)
        shared = np.sum(masks, 0) > 1 if masks else np.zeros(1)
        assert shared.sum() <= 0.03 * sum(mask.sum() for mask in masks)  # between the rows that are looked at


def test_items_lie_near_where_the_library_has_them():
    scene = a_scene()
    places = BagPlaces(scene)
    bits, known = np.ones((20, 20), bool), np.array([[0.25, 0.5]])
    found = np.array([places.find(bits, np.random.default_rng(seed), known) for seed in range(40)])
    middle = (np.array([20 + 0.25 * 600, 20 + 0.5 * 440]) - 10).round()
    assert np.abs(np.median(found, 0) - middle).max() < 40
    anywhere = np.array([places.find(bits, np.random.default_rng(seed)) for seed in range(40)])
    assert anywhere.std(0).min() > 1.5 * found.std(0).min()


def test_rare_classes_are_drawn_more_often(library, others):
    counts = {}
    for balance in (0.0, 1.0):
        part = ThreatProjection(library, items=(1, 1), empty=1.0, balance=balance)
        others.instance_counts = (900, 100)  # knife, gun
        drawn = [a["category_id"] for seed in range(60) for a in projected(part, others, seed)[1].annotations]
        counts[balance] = sum(drawn) / len(drawn)
    assert 0.3 < counts[0.0] < 0.7
    assert counts[1.0] > 0.8


def test_items_are_scaled_by_the_size_of_a_pixel(library, others):
    def extents(pixel_size):
        part = ThreatProjection(library, items=(1, 1), empty=1.0, near_items=0, pixel_size=pixel_size, **STILL)
        found = [projected(part, others, seed)[1].annotations for seed in range(8)]
        return np.median([max(a["bbox"][2:]) for annotations in found for a in annotations])

    assert extents(0.5) == pytest.approx(2 * extents(None), rel=0.1)
    assert extents(2.0) == pytest.approx(0.5 * extents(None), rel=0.1)


def test_turned_and_mirrored_items_keep_their_area(library, others):
    part = ThreatProjection(library, items=(1, 1), empty=1.0, scale=(1, 1), rotation=20, names={"gun": None})
    areas = [a["area"] for seed in range(12) for a in projected(part, others, seed)[1].annotations]
    whole = 36 * 16 + 44 * 10
    assert len(areas) > 8 and all(0.75 * whole < area < 1.35 * whole for area in areas)


def test_noise_is_on_the_items_alone(library, others):
    plain = ThreatProjection(library, items=(1, 1), empty=1.0)
    noisy = ThreatProjection(library, items=(1, 1), empty=1.0, noise=6.0)
    (_, first), (_, second) = projected(plain, others, 2), projected(noisy, others, 2)
    mask = cv2.dilate(mask_util.decode(first.annotations[0]["segmentation"]), np.ones((9, 9), np.uint8)) > 0
    different = second.image.astype(int) - first.image
    assert (different[~mask] == 0).all() and 2 < different[mask].std() < 8


def test_the_order_of_the_channels_is_the_images(library, others):
    part = ThreatProjection(library, empty=1.0)
    bgr = projected(part, others, 1)[1].image
    scene = a_scene()
    scene = Scene(np.ascontiguousarray(scene.image[:, :, ::-1]), [], "RGB")
    rgb = part(scene, np.random.default_rng(1), others).image
    assert np.abs(rgb[:, :, ::-1].astype(int) - bgr).max() <= 1


def test_projected_items_reach_the_model_with_their_masks(bags):
    dataset, library = bags
    mapper = DetectionMapper([], mixing=[ThreatProjection(library, items=(2, 2), empty=1.0)])
    mapper.mix_from(dataset)
    np.random.seed(0)
    instances = mapper(dataset[2])["instances"]
    assert len(instances) >= 1
    assert instances.gt_masks.get_bounding_boxes().tensor.tolist() == instances.gt_boxes.tensor.tolist()


@pytest.mark.parametrize("options", [{"with_masks": False}, {"plain": True}, {"recompute_boxes": True}])
def test_every_kind_of_mapper_gets_the_same_boxes_of_projected_items(bags, options):
    dataset, library = bags
    boxes = []
    for chosen in ({}, options):
        mapper = DetectionMapper([], mixing=[ThreatProjection(library, items=(2, 2), empty=1.0)], **chosen)
        mapper.mix_from(dataset)
        np.random.seed(0)
        boxes.append(mapper(dataset[2])["instances"].gt_boxes.tensor.tolist())
    assert boxes[0] and boxes[0] == boxes[1]


def test_the_librarys_classes_go_by_name(bags, others, tmp_path):
    dataset, library = bags
    renamed = OtherRecords(dataset, ("knives", "gun"), (1, 1), read_record)
    with pytest.raises(UserError, match="items of class knife, which the training set lacks") as caught:
        projected(ThreatProjection(library, empty=0.0), renamed)
    assert "names={knife: knives}" in caught.value.fix
    mapped = projected(ThreatProjection(library, empty=1.0, names={"knife": "knives"}), renamed)[1]
    assert mapped.annotations
    only = ThreatProjection(library, items=(3, 3), empty=1.0, names={"knife": None})
    drawn = {a["category_id"] for seed in range(5) for a in projected(only, others, seed)[1].annotations}
    assert drawn == {1}
    with pytest.raises(UserError, match="no item of the threat library"):
        ThreatProjection(library, names={"knife": None, "gun": None})


def test_what_no_item_of_the_library_heeds_is_refused(bags, library, tmp_path):
    with pytest.raises(UserError, match=r"names have knif, and .*\nfix: did you mean knife"):
        ThreatProjection(library, names={"knif": None})
    with pytest.raises(UserError, match=r"names have weapon, and .*\nfix: .*gun, knife"):
        ThreatProjection(library, names={"knife": "gun", "weapon": "gun"})
    cut_dataset(bags[0], tmp_path / "unknown")
    with pytest.raises(UserError, match=r"pixel_size scales nothing: .*\nfix: .*--pixel-size MM"):
        ThreatProjection(str(tmp_path / "unknown"), pixel_size=0.5)


@pytest.mark.parametrize(
    "values",
    [
        *({"items": given} for given in ((0, 2), (3, 1), (2,), (1.5, 2), (1, 10**6))),
        *({"scale": given} for given in ((0, 1), (90, 110))),
        *({"empty": 1.5}, {"occupied": -0.1}, {"near_items": 2}, {"balance": 1000}, {"balance": -1}),
        *({"rotation": -5}, {"rotation": 1000}, {"most_overlap": 20}, {"most_attenuation": 0}, {"noise": -1}),
        *({"pixel_size": 0}, {"pixel_size": float("nan")}),
    ],
)
def test_values_that_mean_nothing_are_refused(library, values):
    with pytest.raises(UserError, match="threat projection"):
        ThreatProjection(library, **values)


def test_a_library_is_named_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match=r"no threat library: .*\nfix: make one with `tools/dataset.py threats"):
        ThreatProjection(str(tmp_path / "nowhere"))
    (tmp_path / "threats.json").write_text(json.dumps({"images": [], "annotations": [], "categories": []}))
    with pytest.raises(UserError, match="has no items"):
        ThreatProjection(str(tmp_path))


def test_it_tells_the_classes_that_it_brings(library):
    part = ThreatProjection(library)
    both = {"into_empty": True, "into_occupied": True}
    brought = part.brought_classes(**both)
    assert isinstance(part, BringsItems) and brought
    first = sorted(brought)[0]
    assert ThreatProjection(library, names={first: "weapon"}).brought_classes(**both) == brought - {first} | {"weapon"}
    assert not ThreatProjection(library, empty=0.0).brought_classes(into_empty=True, into_occupied=False)
    assert not ThreatProjection(library, occupied=0.0).brought_classes(into_empty=False, into_occupied=True)
