"""CocoEvaluator on detectron2's own structures: metrics, files, several processes."""

import csv
import json
import logging
import math

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, BoxMode, Instances
from pycocotools import mask as mask_util

from xray_lazy.data.datasets import DetectionDataset
from xray_lazy.data.masks.mask_encoding import encode_bitmaps
from xray_lazy.data.masks.run_lengths import encode_polygons
from xray_lazy.engine.processes.launch import plan_launch, run_processes
from xray_lazy.errors import UserError
from xray_lazy.evaluation.coco_evaluator import CocoEvaluator
from xray_lazy.evaluation.coco_metrics import coco_metrics

HEIGHT, WIDTH = 120, 200


def item(number, category, box, crowd=0):
    x0, y0, x1, y1 = box
    return {
        "id": number,
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "bbox_mode": BoxMode.XYWH_ABS,
        "category_id": category,
        "iscrowd": crowd,
        "area": float((x1 - x0) * (y1 - y0)),
        "segmentation": [[x0, y0, x1, y0, x1, y1, x0, y1]],
    }


def bags(with_masks=True):
    """Three bags, one of them empty, of a set with gaps in all ids; nobody carries a `bottle`."""
    contents = {
        17: [item(0, 0, (10, 10, 60, 70)), item(5, 1, (100, 20, 130, 90))],
        4: [],
        90: [item(9, 0, (20, 30, 50, 60))],
    }
    records = [
        {"file_name": f"{i}.png", "height": HEIGHT, "width": WIDTH, "image_id": i, "annotations": annotations}
        for i, annotations in contents.items()
    ]
    if not with_masks:
        for record in records:
            for annotation in record["annotations"]:
                del annotation["segmentation"]
    return DetectionDataset(records, "xray_test_val", ("gun", "knife", "bottle"), (2, 3, 11))


def with_masks_as(dataset, encode):
    """The set with other segmentations."""
    records = list(dataset)
    for annotation in (one for record in records for one in record["annotations"]):
        annotation["segmentation"] = encode(annotation["segmentation"])
    return DetectionDataset(records, dataset.name, dataset.class_names, dataset.category_ids)


def predicted(boxes, classes, scores, with_masks=True):
    """The output of a model for one image; masks fill the boxes."""
    instances = Instances((HEIGHT, WIDTH))
    instances.pred_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
    instances.pred_classes = torch.tensor(classes, dtype=torch.int64)
    instances.scores = torch.tensor(scores, dtype=torch.float32)
    if with_masks:
        masks = torch.zeros(len(boxes), HEIGHT, WIDTH, dtype=torch.bool)
        for mask, (x0, y0, x1, y1) in zip(masks, boxes, strict=True):
            mask[int(y0) : int(y1), int(x0) : int(x1)] = True
        instances.pred_masks = masks
    return {"instances": instances}


def perfect(record, with_masks=True):
    boxes = [BoxMode.convert(a["bbox"], a["bbox_mode"], BoxMode.XYXY_ABS) for a in record["annotations"]]
    classes = [a["category_id"] for a in record["annotations"]]
    return predicted(boxes, classes, [0.9] * len(boxes), with_masks)


def evaluated(dataset, outputs, **options):
    evaluator = CocoEvaluator(dataset, **options)
    for record, output in zip(dataset, outputs, strict=True):
        evaluator.process([record], [output])
    return evaluator, evaluator.evaluate()


def test_perfect_predictions_reach_100_and_an_absent_class_is_nan():
    dataset = bags()
    _, results = evaluated(dataset, [perfect(r) for r in dataset])
    for kind in ("bbox", "segm"):
        assert results[kind]["AP"] == pytest.approx(100)
        assert results[kind]["AP-gun"] == pytest.approx(100)
        assert results[kind]["AP-knife"] == pytest.approx(100)
        assert math.isnan(results[kind]["AP-bottle"])
    assert list(results) == ["bbox", "segm"]


def test_nothing_found_is_zero():
    dataset = bags()
    _, results = evaluated(dataset, [predicted([], [], []) for _ in dataset])
    assert results["bbox"]["AP"] == results["segm"]["AP"] == 0
    assert math.isnan(results["bbox"]["AP-bottle"])


def test_images_without_predictions_count_as_missed(caplog):
    dataset = bags()
    evaluator = CocoEvaluator(dataset)
    evaluator.process(dataset[:1], [perfect(dataset[0])])
    with caplog.at_level(logging.WARNING):
        results = evaluator.evaluate()
    assert results["bbox"]["AP-knife"] == pytest.approx(100)
    assert results["bbox"]["AP-gun"] == pytest.approx(100 * 51 / 101)  # one of two: 51 of COCO's 101 recall points
    assert "no predictions of 2 of 3 images" in caplog.text


def test_nothing_processed_at_all_is_zero_for_boxes():
    assert CocoEvaluator(bags()).evaluate()["bbox"]["AP"] == 0


def test_a_image_that_comes_twice_counts_once():
    dataset = bags()
    evaluator = CocoEvaluator(dataset)
    for _ in range(2):
        evaluator.process(dataset, [perfect(r) for r in dataset])
    assert evaluator.evaluate()["bbox"]["AP"] == pytest.approx(100)


def test_reset_forgets():
    dataset = bags()
    evaluator, _ = evaluated(dataset, [perfect(r) for r in dataset])
    evaluator.reset()
    assert evaluator.evaluate()["bbox"]["AP"] == 0


@pytest.mark.parametrize(("set_has_masks", "model_has_masks"), [(False, True), (True, False)])
def test_masks_are_evaluated_only_where_both_sides_have_them(set_has_masks, model_has_masks):
    dataset = bags(set_has_masks)
    _, results = evaluated(dataset, [perfect(r, model_has_masks) for r in dataset])
    assert list(results) == ["bbox"]
    assert results["bbox"]["AP"] == pytest.approx(100)


def test_a_detection_on_a_crowd_region_is_no_error():
    records = list(bags())
    records[1]["annotations"].append(item(70, 0, (100, 20, 180, 110), crowd=1))
    dataset = bags().part(records, "crowded")
    outputs = [perfect(r) for r in dataset]
    outputs[1] = predicted([(110, 30, 130, 60), (140, 40, 160, 80)], [0, 0], [0.99, 0.98])
    _, results = evaluated(dataset, outputs)
    assert results["bbox"]["AP"] == results["segm"]["AP"] == pytest.approx(100)


def test_polygon_and_rle_ground_truth_give_the_same_figures():
    polygons = bags()
    # `counts` are bytes here, as detectron2 allows
    rle = with_masks_as(polygons, lambda mask: mask_util.merge(mask_util.frPyObjects(mask, HEIGHT, WIDTH)))
    assert isinstance(rle[0]["annotations"][0]["segmentation"]["counts"], bytes)
    outputs = [perfect(r) for r in polygons]
    first, second = evaluated(polygons, outputs)[1], evaluated(rle, outputs)[1]
    np.testing.assert_equal(first, second)


@pytest.mark.parametrize("damage", [lambda text: text[:-1], lambda text: text + "1", lambda text: "PPR1"])
def test_a_mask_whose_runs_do_not_add_up_is_refused_before_anything_is_evaluated(damage):
    encoded = with_masks_as(bags(), lambda mask: encode_polygons(mask, HEIGHT, WIDTH))
    CocoEvaluator(encoded)
    damaged = with_masks_as(encoded, lambda mask: mask | {"counts": damage(mask["counts"])})
    with pytest.raises(UserError, match=r"do not add up to its size: that of annotation 0 in 17\.png"):
        CocoEvaluator(damaged)


def test_detections_that_are_not_finite_are_left_out_with_a_warning(caplog):
    dataset = bags()
    outputs = [perfect(r) for r in dataset]
    outputs[1] = predicted([(1, 1, 20, 20), (math.nan, 1, 20, 20)], [0, 0], [math.nan, 0.9], with_masks=False)
    with caplog.at_level(logging.WARNING):
        _, results = evaluated(dataset, outputs)
    assert results["bbox"]["AP"] == pytest.approx(100)
    assert "left out 2 detections with a score or box that is not finite" in caplog.text


def test_a_prediction_at_another_size_or_for_an_unknown_image_is_refused():
    dataset = bags()
    output = perfect(dataset[0])
    with pytest.raises(ValueError, match="image 5 is not in data set xray_test_val"):
        CocoEvaluator(dataset).process([{**dataset[0], "image_id": 5}], [output])
    output["instances"]._image_size = (60, 100)
    with pytest.raises(ValueError, match=r"predicted at \(60, 100\)"):
        CocoEvaluator(dataset).process([dataset[0]], [output])


def test_saved_files_are_complete_and_evaluate_to_the_same_figures(tmp_path):
    dataset = bags()
    outputs = [perfect(r) for r in dataset]
    outputs[2] = predicted([(22, 30, 52, 60), (1, 1, 9, 9)], [0, 1], [0.6, 0.7])
    evaluator, results = evaluated(dataset, outputs)
    evaluator.save(tmp_path / "iter_5")
    folder = tmp_path / "iter_5"
    assert sorted(p.name for p in folder.iterdir()) == ["metrics.json", "per_category.csv", "predictions.json"]

    predictions = json.loads((folder / "predictions.json").read_text())
    assert {p["image_id"] for p in predictions} == {17, 90}
    assert {p["category_id"] for p in predictions} == {2, 3}
    for kind in ("bbox", "segm"):
        again = coco_metrics(evaluator.ground_truth, predictions, kind)
        assert again.summary["AP"] == results[kind]["AP"]

    metrics = json.loads((folder / "metrics.json").read_text(), parse_constant=pytest.fail)
    assert metrics["dataset"] == "xray_test_val" and metrics["detections"] == 4
    assert metrics["segm"]["AP"] == results["segm"]["AP"]
    assert metrics["segm"]["AP-bottle"] is None

    gun, _, bottle = csv.DictReader((folder / "per_category.csv").open())
    assert (gun["class"], gun["category_id"], gun["instances"], gun["images"]) == ("gun", "2", "2", "2")
    assert float(gun["segm/AP50"]) == pytest.approx(100)
    assert bottle["bbox/AP"] == ""


def test_the_log_shows_the_table(caplog):
    dataset = bags()
    with caplog.at_level(logging.INFO, logger="xray_lazy"):
        evaluated(dataset, [perfect(r) for r in dataset])
    assert ["knife", "1", "100.0", "100.0"] in [line.split() for line in caplog.text.splitlines()]


@pytest.mark.parametrize("count", [0, 1, 3, 40])
def test_encoded_masks_decode_to_themselves(count):
    masks = torch.rand(count, 23, 31, generator=torch.Generator().manual_seed(0)) > 0.5
    encoded = encode_bitmaps(masks)
    assert len(encoded) == count
    for mask, code in zip(masks, encoded, strict=True):
        np.testing.assert_array_equal(mask_util.decode(code), mask.numpy())


def fair(record):
    """Every other item, in a box that is a little too large, and an item that is not there."""
    boxes = [[x - 2, y - 1, x + w, y + h] for x, y, w, h in (a["bbox"] for a in record["annotations"][::2])]
    return predicted([*boxes, [150, 80, 190, 110]], [0] * (len(boxes) + 1), [0.5] * (len(boxes) + 1))


def evaluate_share(folder):
    """One of two processes; both see image 90, as a sampler that fills up the last share makes it."""
    rank, dataset = torch.distributed.get_rank(), bags()
    share = [dataset[0], dataset[2]] if rank == 0 else [dataset[1], dataset[2]]
    evaluator = CocoEvaluator(dataset)
    for _ in range(2):
        evaluator.reset()
        evaluator.process(share, [fair(r) for r in share])
        results = evaluator.evaluate()
    evaluator.save(folder / f"rank{rank}")
    (folder / f"results{rank}.json").write_text(json.dumps(results))


def test_two_processes_give_one_result(tmp_path):
    run_processes(plan_launch("cpu", num_processes=2), evaluate_share, tmp_path)
    main, other = (json.loads((tmp_path / f"results{rank}.json").read_text()) for rank in (0, 1))
    assert other == {}
    dataset = bags()
    alone, results = evaluated(dataset, [fair(r) for r in dataset])
    assert 0 < main["bbox"]["AP"] < 60 and 0 < main["segm"]["AP"] < 60
    np.testing.assert_equal(main, dict(results))
    alone.save(tmp_path / "alone")
    for name in ("metrics.json", "per_category.csv", "predictions.json"):
        assert (tmp_path / "rank0" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()
    assert not (tmp_path / "rank1").exists()
