"""Compact detections: their COCO results, their files, their figures beside pycocotools'."""

import json
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.evaluation.test_mask_encoding import smooth_masks
from xray_lazy.data.image_detections import ImageDetections
from xray_lazy.data.masks.mask_encoding import EncodedMasks, encode_box_masks
from xray_lazy.engine.processes.launch import plan_launch, run_processes
from xray_lazy.errors import UserError
from xray_lazy.evaluation import detections
from xray_lazy.evaluation.coco_metrics import Problem, coco_metrics, image_positions
from xray_lazy.evaluation.detections import CocoResults
from xray_lazy.evaluation.ground_truth import GroundTruth

CATEGORY_IDS = (2, 3, 11)
HEIGHT, WIDTH = 60, 80


def some_detections(count, seed=0, with_masks=True):
    random = np.random.default_rng(seed)
    corners, sides = random.uniform(0, (50, 40), (count, 2)), random.uniform(2, 30, (count, 2))
    boxes = np.concatenate([corners, corners + sides], axis=1).astype(np.float32)
    masks = encode_box_masks(smooth_masks(count, seed=seed), torch.from_numpy(boxes), HEIGHT, WIDTH)
    scores = random.integers(0, 8, count).astype(np.float32) / 8  # with ties
    classes = random.integers(0, len(CATEGORY_IDS), count).astype(np.int32)
    return ImageDetections(boxes, scores, classes, masks if with_masks else None)


def images(with_masks=True):
    return {i: some_detections(n, i, with_masks) for i, n in ((4, 3), (90, 0), (17, 5))}


@pytest.mark.parametrize("with_masks", [True, False])
def test_results_are_those_of_coco(with_masks):
    found = images(with_masks)
    results = CocoResults(found, CATEGORY_IDS)
    assert len(results) == len(list(results)) == 8 and bool(results)
    assert [result["image_id"] for result in results] == [4] * 3 + [17] * 5
    assert results[4] == list(results)[4] == results[-4]
    last = found[17]
    assert results[7]["bbox"] == last.xywh[4].tolist() and results[7]["score"] == last.scores[4]
    assert results[7]["category_id"] == CATEGORY_IDS[last.classes[4]]
    assert results[7].get("segmentation") == (list(last.masks)[4] if with_masks else None)
    with pytest.raises(IndexError):
        results[8]


@pytest.mark.parametrize("found", [images(), images(False), {}, {7: some_detections(0)}], ids=str)
def test_the_file_holds_all_results(found, tmp_path):
    results = CocoResults(found, CATEGORY_IDS)
    results.write(tmp_path / "predictions.json")
    assert json.loads((tmp_path / "predictions.json").read_text()) == list(results)


@pytest.mark.parametrize("with_masks", [True, False])
def test_packed_images_come_out_as_they_went_in(with_masks):
    found = images(with_masks)
    packed = pickle.loads(pickle.dumps(detections._packed(list(found), found)))
    again = dict(detections._unpacked(*packed))
    assert list(again) == list(found)
    assert list(CocoResults(again, CATEGORY_IDS)) == list(CocoResults(found, CATEGORY_IDS))
    assert dict(detections._unpacked(*detections._packed([], {}))) == {}


def gather_share(folder):
    """Three processes, the last without images; portions of one image; image 90 with two processes."""
    rank = torch.distributed.get_rank()
    detections.IMAGES_AT_ONCE = 1
    own = [{4: some_detections(3, 4), 90: some_detections(1, 90)}, {17: some_detections(5, 17)}, {}][rank]
    if rank == 1:
        own[90] = some_detections(2, 91)
    (folder / f"{rank}.json").write_text(json.dumps(list(CocoResults(detections.gather_detections(own), CATEGORY_IDS))))


@pytest.mark.slow
def test_the_main_process_gathers_all_in_portions(tmp_path):
    run_processes(plan_launch("cpu", num_processes=3), gather_share, tmp_path)
    main, *others = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(3))
    whole = {4: some_detections(3, 4), 90: some_detections(1, 90), 17: some_detections(5, 17)}
    assert sorted(map(json.dumps, main)) == sorted(map(json.dumps, CocoResults(whole, CATEGORY_IDS)))
    assert others == [[], []]


def random_truth(image_ids, seed):
    random, annotations = np.random.default_rng(seed), []
    for image_id in image_ids:
        found = some_detections(int(random.integers(0, 5)), int(image_id) + 7)
        for result, area in zip(
            CocoResults({image_id: found}, CATEGORY_IDS), random.integers(1, 20000, 9), strict=False
        ):
            del result["score"]
            if random.random() < 0.15:
                del result["segmentation"]
            crowd = int(random.random() < 0.2)
            area = float(random.integers(1, 20000))
            annotations.append(result | {"id": len(annotations), "iscrowd": crowd, "area": area})
    images = [{"id": image_id, "width": WIDTH, "height": HEIGHT} for image_id in image_ids]
    categories = [{"id": number, "name": f"class {number}"} for number in CATEGORY_IDS]
    return {"images": images, "annotations": annotations, "categories": categories}


def streamed(truth, found, iou_type, max_detections=100):
    known = GroundTruth(Problem.build(truth, [], iou_type, max_detections))
    return known.metrics([known.match(found, CATEGORY_IDS)])


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([1, 3, 100]), st.sampled_from(["bbox", "segm"]))
def test_figures_equal_pycocotools(seed, max_detections, iou_type):
    image_ids = [int(i) for i in np.random.default_rng(seed).permutation(140)]
    found = {i: some_detections(i % 6, i + 7 if i % 3 else i) for i in image_ids if i % 7}
    truth = random_truth(image_ids, seed)
    plain = coco_metrics(truth, list(CocoResults(found, CATEGORY_IDS)), iou_type, max_detections, use_hotcoco=False)
    np.testing.assert_equal(vars(streamed(truth, found, iou_type, max_detections)), vars(plain))


def part_of(truth, image_ids):
    chosen = {name: [one for one in truth[name] if one[key] in image_ids] for name, key in PART_KEYS.items()}
    return truth | chosen


PART_KEYS = {"images": "id", "annotations": "image_id"}


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 5), st.sampled_from(["bbox", "segm"]))
def test_figures_of_parts_equal_those_of_the_whole(seed, parts, iou_type):
    """Parts mix images from all over the set, as processes have them, some none at all; scores have ties."""
    random = np.random.default_rng(seed)
    image_ids = [int(i) for i in random.permutation(90)]
    found = {i: some_detections(i % 6, i) for i in image_ids if i % 7}
    truth = random_truth(image_ids, seed)
    positions, part = image_positions(image_ids), random.integers(0, parts + 1, len(image_ids))
    matched = []
    for number in range(parts + 1):
        own = {i for i, at in zip(image_ids, part, strict=True) if at == number}
        known = GroundTruth(Problem.build(part_of(truth, own), [], iou_type, 100, positions))
        matches = known.match({i: found[i] for i in own if i in found}, CATEGORY_IDS)
        matched.append(pickle.loads(pickle.dumps(matches)))
    np.testing.assert_equal(vars(known.metrics(matched)), vars(streamed(truth, found, iou_type)))


def test_no_detections_at_all_are_zero():
    truth = random_truth(range(5), 1)
    for iou_type in ("bbox", "segm"):
        assert streamed(truth, {}, iou_type).summary["AP"] == 0


def test_some_detections_without_masks_are_an_error():
    found = {1: some_detections(2), 2: some_detections(2, with_masks=False)}
    with pytest.raises(UserError, match="some have none"):
        streamed(random_truth(range(5), 1), found, "segm")


def test_a_image_of_a_hundred_masks_is_small():
    found = some_detections(100)
    arrays = found.boxes.nbytes + found.scores.nbytes + found.classes.nbytes + found.masks.ends.nbytes
    assert isinstance(found.masks, EncodedMasks) and arrays == 100 * 28
    assert len(pickle.dumps(found)) < arrays + len(found.masks.counts) + 1000
