"""hotcoco's figures are pycocotools' figures, and both are right on cases that can be worked out by hand."""

import copy
import math
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as mask_util

from xray_lazy.errors import UserError
from xray_lazy.evaluation.coco_metrics import coco_metrics, encode_segmentation

# sides on and beside the borders between small, medium and large
SIDES = st.sampled_from([0, 1, 5, 31, 32, 33, 60, 95, 96, 97, 31.5, 95.99])
AREAS = st.sampled_from([0.0, 1023.999, 1024.0, 1024.001, 9215.999, 9216.0, 9216.001, 1e10])
# few values, so that scores tie; and any values
SCORES = st.one_of(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), st.floats(0, 1, width=32))


def rectangle(box):
    x, y, w, h = box
    return [[x, y, x + w, y, x + w, y + h, x, y + h]]


def uncompressed(rle):
    """RLE with `counts` as a list, as COCO has its crowd regions."""
    flat = mask_util.decode(rle).flatten(order="F")
    edges = [0, *(np.flatnonzero(np.diff(flat)) + 1).tolist(), len(flat)]
    counts = np.diff(edges).tolist()
    return {"size": list(rle["size"]), "counts": [0, *counts] if flat[0] else counts}


@st.composite
def boxes(draw):
    x, y = draw(st.integers(-10, 100)), draw(st.integers(-10, 80))
    return [float(x), float(y), float(draw(SIDES)), float(draw(SIDES))]


@st.composite
def problems(draw):
    """Ground truth and detections with gaps in all ids, crowd, ties, empty images and unknown categories."""
    image_ids = draw(st.lists(st.integers(0, 100_000), max_size=4, unique=True))
    category_ids = draw(st.lists(st.integers(0, 90), min_size=1, max_size=3, unique=True))
    size = st.integers(60, 160)
    images = [{"id": i, "width": draw(size), "height": draw(size)} for i in image_ids]
    annotations, detections = [], []
    for image in images:
        height, width = image["height"], image["width"]
        truth = draw(st.lists(st.tuples(boxes(), st.sampled_from(category_ids), st.booleans(), AREAS), max_size=4))
        for box, category, is_crowd, area in truth:
            segmentation = rectangle(box)
            if is_crowd:
                segmentation = uncompressed(encode_segmentation(segmentation, height, width))
            annotations.append(
                {"id": 3 * len(annotations), "image_id": image["id"], "category_id": category, "bbox": box,
                 "iscrowd": int(is_crowd), "area": area, "segmentation": segmentation}
            )  # fmt: skip
        near = st.tuples(st.sampled_from([t[0] for t in truth]), st.integers(-4, 4)) if truth else st.nothing()
        moved = near.map(lambda pair: [pair[0][0] + pair[1], *pair[0][1:]])
        for box, category, score in draw(
            st.lists(st.tuples(st.one_of(moved, boxes()), st.sampled_from([*category_ids, 99]), SCORES), max_size=14)
        ):
            detections.append(
                {"image_id": image["id"], "category_id": category, "bbox": box, "score": score,
                 "segmentation": encode_segmentation(rectangle(box), height, width)}
            )  # fmt: skip
    categories = [{"id": i, "name": f"class {i}"} for i in category_ids]
    return {"images": images, "annotations": annotations, "categories": categories}, draw(st.permutations(detections))


def figures(metrics):
    rows = [(c.instances, c.images, c.ap, c.ap50, c.ap75, c.ar) for c in metrics.categories]
    return [*metrics.summary.values(), *(value for row in rows for value in row)]


@settings(max_examples=150, deadline=None)
@given(problem=problems(), limit=st.sampled_from([1, 2, 10, 13, 100]), iou_type=st.sampled_from(["bbox", "segm"]))
def test_hotcoco_equals_pycocotools(problem, limit, iou_type):
    ground_truth, detections = problem
    before = copy.deepcopy(problem)
    fast = coco_metrics(ground_truth, detections, iou_type, limit)
    reference = coco_metrics(ground_truth, detections, iou_type, limit, use_hotcoco=False)
    assert list(fast.summary) == list(reference.summary)
    np.testing.assert_allclose(figures(fast), figures(reference), rtol=0, atol=1e-6)
    assert problem == before


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_hotcoco_equals_pycocotools_itself_on_many_detections(iou_type):
    """Against pycocotools' own loading and summary too, not only its matching."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    ground_truth, detections = crowded_bags(images=60, found_per_image=30)
    truth = COCO()
    truth.dataset = copy.deepcopy(ground_truth)
    truth.createIndex()
    results = copy.deepcopy(detections)
    for result in results:
        result.pop("bbox" if iou_type == "segm" else "segmentation")
    evaluation = COCOeval(truth, truth.loadRes(results), iou_type)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    metrics = coco_metrics(ground_truth, detections, iou_type)
    assert " ".join(metrics.summary) == "AP AP50 AP75 APs APm APl AR1 AR10 AR100 ARs ARm ARl"
    np.testing.assert_allclose(list(metrics.summary.values()), evaluation.stats * 100, rtol=0, atol=1e-6)
    assert 5 < metrics.summary["AP"] < 95


def crowded_bags(images, found_per_image):
    generator = np.random.default_rng(7)
    entries = [{"id": 10 * i, "width": 640, "height": 480} for i in range(images)]
    annotations, detections = [], []
    for image in entries:
        for _ in range(6):
            w, h = generator.uniform(10, 200, 2)
            x, y = generator.uniform(0, 640 - w), generator.uniform(0, 480 - h)
            box = [x, y, w, h]
            annotations.append(
                {"id": len(annotations) + 1, "image_id": image["id"], "category_id": int(generator.integers(1, 6)),
                 "bbox": box, "area": w * h, "iscrowd": 0, "segmentation": rectangle(box)}
            )  # fmt: skip
        for _ in range(found_per_image):
            origin = annotations[-1 - int(generator.integers(6))]
            box = [v + float(generator.normal()) * origin["bbox"][2] * 0.08 for v in origin["bbox"]]
            box[2:] = [max(v, 1.0) for v in box[2:]]
            detections.append(
                {"image_id": image["id"], "category_id": origin["category_id"], "bbox": box,
                 "score": float(generator.random()), "segmentation": encode_segmentation(rectangle(box), 480, 640)}
            )  # fmt: skip
    categories = [{"id": i, "name": f"class {i}"} for i in range(1, 6)]
    return {"images": entries, "annotations": annotations, "categories": categories}, detections


def one_gun(**changes):
    annotation = {"id": 1, "image_id": 1, "category_id": 4, "bbox": [10, 10, 40, 40], "area": 1600.0, "iscrowd": 0}
    return {
        "images": [{"id": 1, "width": 100, "height": 100}],
        "annotations": [annotation | changes],
        "categories": [{"id": 4, "name": "gun"}, {"id": 9, "name": "knife"}],
    }


FOUND = {"image_id": 1, "category_id": 4, "bbox": [10, 10, 40, 40], "score": 0.9}


def test_perfect_detection_is_100_and_a_class_without_instances_is_nan():
    metrics = coco_metrics(one_gun(), [FOUND], "bbox")
    gun, knife = metrics.categories
    assert metrics.summary["AP"] == pytest.approx(100)
    assert (gun.name, gun.instances, gun.images) == ("gun", 1, 1)
    assert (gun.ap, gun.ap50, gun.ap75, gun.ar) == pytest.approx((100, 100, 100, 100))
    assert math.isnan(knife.ap)
    assert math.isnan(metrics.summary["APs"]) and math.isnan(metrics.summary["APl"])


def test_half_overlap_counts_at_low_thresholds_only():
    # IoU 40 * 40 / (40 * 60) = 2/3: right at 0.50, 0.55, 0.60, 0.65
    metrics = coco_metrics(one_gun(), [{**FOUND, "bbox": [10, 10, 60, 40]}], "bbox")
    assert metrics.summary["AP"] == pytest.approx(40)
    assert metrics.summary["AP50"] == pytest.approx(100)
    assert metrics.summary["AP75"] == pytest.approx(0)


@pytest.mark.parametrize("use_hotcoco", [True, False])
@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_no_detections_is_zero_and_no_ground_truth_is_nan(iou_type, use_hotcoco):
    empty = {"images": [], "annotations": [], "categories": []}
    nothing_there = {**one_gun(), "annotations": []}
    assert coco_metrics(one_gun(), [], iou_type, use_hotcoco=use_hotcoco).summary["AP50"] == (
        0 if iou_type == "bbox" else pytest.approx(math.nan, nan_ok=True)
    )
    for truth in (empty, nothing_there):
        metrics = coco_metrics(truth, [], iou_type, use_hotcoco=use_hotcoco)
        assert all(math.isnan(value) for value in metrics.summary.values())


@pytest.mark.parametrize("use_hotcoco", [True, False])
def test_an_annotation_with_id_0_can_be_found(use_hotcoco):
    assert coco_metrics(one_gun(id=0), [FOUND], "bbox", use_hotcoco=use_hotcoco).summary["AP"] == pytest.approx(100)


def test_missing_area_and_crowd_flag_are_filled_and_text_image_ids_work():
    truth = one_gun(image_id="bag-7")
    truth["images"][0]["id"] = "bag-7"
    del truth["annotations"][0]["area"], truth["annotations"][0]["iscrowd"]
    metrics = coco_metrics(truth, [{**FOUND, "image_id": "bag-7"}], "bbox")
    assert metrics.summary["APm"] == pytest.approx(100)


def test_an_instance_without_mask_is_neither_won_nor_lost_in_segm():
    truth = one_gun()
    other = {**truth["annotations"][0], "id": 2, "bbox": [60, 60, 20, 20], "segmentation": rectangle([60, 60, 20, 20])}
    truth["annotations"].append(other)
    on_boxed, on_masked = rectangle([12, 12, 20, 20]), rectangle([60, 60, 20, 20])
    found = [
        {**FOUND, "score": score, "segmentation": encode_segmentation(polygons, 100, 100)}
        for score, polygons in ((0.9, on_boxed), (0.8, on_masked))
    ]
    metrics = coco_metrics(truth, found, "segm")
    assert metrics.summary["AP"] == pytest.approx(100)
    assert metrics.categories[0].instances == 1


def test_mask_area_not_box_area_sorts_detections_by_size():
    # a small false mask in a large box: it hurts `small` only
    truth = one_gun(segmentation=rectangle([10, 10, 40, 40]))
    small = {**one_gun()["annotations"][0], "id": 2, "bbox": [80, 80, 10, 10], "area": 100.0}
    truth["annotations"].append({**small, "segmentation": rectangle([80, 80, 10, 10])})
    false_one = {**FOUND, "score": 0.95, "bbox": [0, 0, 99, 99], "segmentation": rectangle([0, 0, 9, 9])}
    masks = [rectangle([10, 10, 40, 40]), rectangle([80, 80, 10, 10])]
    found = [false_one, *({**FOUND, "segmentation": mask} for mask in masks)]
    found = [{**f, "segmentation": encode_segmentation(f["segmentation"], 100, 100)} for f in found]
    metrics = coco_metrics(truth, found, "segm")
    assert metrics.summary["APm"] == pytest.approx(100)
    assert metrics.summary["APs"] == pytest.approx(50)


def test_recall_is_named_by_its_number_of_detections():
    assert [name for name in coco_metrics(one_gun(), [], "bbox", 300).summary if name[:2] == "AR"][:3] == [
        "AR1", "AR10", "AR300",
    ]  # fmt: skip
    assert "AR10" not in coco_metrics(one_gun(), [], "bbox", 5).summary


def test_pycocotools_takes_over_where_hotcoco_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "hotcoco", None)
    assert coco_metrics(one_gun(), [FOUND], "bbox").summary["AP"] == pytest.approx(100)


@pytest.mark.parametrize(
    ("detection", "message"),
    [
        ({**FOUND, "image_id": 77}, "id 77"),
        ({**FOUND, "score": math.nan}, "not finite"),
        ({**FOUND, "bbox": [0, 0, math.inf, 1]}, "not finite"),
    ],
)
def test_detections_that_mean_nothing_are_refused(detection, message):
    with pytest.raises(UserError, match=message):
        coco_metrics(one_gun(), [FOUND, detection], "bbox")


@pytest.mark.parametrize("missing", ["bbox", "segmentation"])
def test_detections_without_what_is_compared_are_refused(missing):
    mask = encode_segmentation(rectangle([10, 10, 40, 40]), 100, 100)
    found = {**FOUND, "segmentation": mask}
    del found[missing]
    with pytest.raises(UserError, match=f"1 detection has no {missing}"):
        coco_metrics(one_gun(), [found], "bbox" if missing == "bbox" else "segm")


def test_masks_of_another_size_than_the_image_are_refused():
    mask = encode_segmentation(rectangle([1, 1, 30, 30]), 50, 60)
    with pytest.raises(UserError, match="100x100 in the ground truth, a mask on it is 60x50"):
        coco_metrics(one_gun(), [{**FOUND, "segmentation": mask}], "segm")


def test_polygons_on_a_image_of_unknown_size_are_refused():
    truth = one_gun(segmentation=rectangle([10, 10, 40, 40]))
    truth["images"][0].update(width=0, height=0)
    with pytest.raises(UserError, match=r"repair"):
        coco_metrics(truth, [], "segm")


def test_polygons_of_two_points_hold_no_mask():
    assert encode_segmentation([[1, 1, 5, 5]], 10, 10) is None
    assert encode_segmentation([], 10, 10) is None
    assert mask_util.area(encode_segmentation([[1, 1, 5, 5], *rectangle([2, 2, 4, 4])], 10, 10)) == 16
