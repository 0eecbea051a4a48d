"""The screening of an evaluation: what tools/analyze.py says of the same detections."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances

from tests.data.coco_sets import reference, write_set
from xray_lazy.analysis.inputs import inputs_of_files
from xray_lazy.analysis.screening.fused_views import fit_views, with_fused_views, write_views
from xray_lazy.analysis.screening.screening import screen_inputs
from xray_lazy.data.datasets import load_datasets
from xray_lazy.errors import UserError
from xray_lazy.evaluation.coco_evaluator import CocoEvaluator
from xray_lazy.evaluation.screening.bags import HitRule
from xray_lazy.evaluation.screening.in_training import BagScreening
from xray_lazy.evaluation.screening.view_fusion import read_fusion
from xray_lazy.run_folder import PREDICTIONS


@pytest.fixture(scope="module")
def some_bags(tmp_path_factory):
    """A set with an item or none in each image, and its JSON file."""
    folder = tmp_path_factory.mktemp("bags")
    write_set(folder, count=24)
    return load_datasets(reference(folder)), folder


def guesses(record, random, of=12):
    """Boxes near the items and beside them, with scores of few digits, so that some are equal."""
    near = [one["bbox"] for one in record["annotations"]] or [[5, 5, 10, 10]]
    boxes = np.array([near[k % len(near)] for k in range(of)], float)
    boxes[:, 2:] += boxes[:, :2]
    boxes += random.normal(0, 2, boxes.shape) * (random.random((of, 1)) < 0.7)
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
    return Instances(
        (record["height"], record["width"]),
        pred_boxes=Boxes(torch.tensor(boxes, dtype=torch.float32)),
        scores=torch.tensor(random.random(of).round(2), dtype=torch.float32),
        pred_classes=torch.tensor(random.integers(2, size=of)),
    )


def evaluated(dataset, screening, max_detections=100):
    random = np.random.default_rng(1)
    evaluator = CocoEvaluator(dataset, max_detections, screening)
    for record in dataset:
        evaluator.process([record], [{"instances": guesses(record, random)}])
    return evaluator, evaluator.evaluate()


@pytest.mark.parametrize(
    ("options", "rule", "group_by", "most"),
    [
        ({}, HitRule(), None, 100),
        ({"hit": "centre"}, HitRule("centre"), None, 3),
        ({"iou": 0.7, "group_by": r"(\d)\."}, HitRule(iou=0.7), r"(\d)\.", 100),
    ],
)
def test_the_figures_are_those_of_the_tool(some_bags, tmp_path, options, rule, group_by, most):
    dataset, folder = some_bags
    screening = BagScreening(false_alarms=[1, 20, 50.5], detections=[30, 90], per_class=True, **options)
    evaluator, results = evaluated(dataset, screening, most)
    evaluator.save(tmp_path)
    inputs = inputs_of_files(tmp_path / PREDICTIONS, str(dataset.json_files[0]), f"{folder}/images", most)
    told = screen_inputs(inputs, rule=rule, group_by=group_by, rates=[0.01, 0.2, 0.505], resamples=2)
    for one, suffix in ((told.overall, ""), *((one, f"-{one.name}") for one in told.classes)):
        for point in one.points:
            name = f"P_D@{100 * point.asked:g}{suffix}"
            assert results["screening"][name] == pytest.approx(100 * point.detection, nan_ok=True), name
        found, due = results["screening"][f"P_FA@90{suffix}"], 100 * one.false_alarms_at[0.9]
        assert found == pytest.approx(due, nan_ok=True)
    false, found = evaluator.marks.curve()
    for marks, share in told.froc.items():
        assert found[false <= marks].max() == pytest.approx(share)
    if not group_by:
        assert any(0 < value < 100 for value in results["screening"].values())
    assert set(results["screening"]) == set(screening.metric_names(dataset.class_names))


def test_without_clean_bags_there_are_no_figures_but_one_warning(some_bags, caplog):
    dataset, _ = some_bags
    threats = dataset.part([record for record in dataset if record["annotations"]], "threats")
    evaluator, results = evaluated(threats, BagScreening())
    for _ in range(2):
        evaluator.over_sets([evaluator])
    assert all(math.isnan(value) for value in results["screening"].values())
    assert caplog.text.count("each bag has a threat") == 1


def test_sets_of_threats_and_of_clean_bags_are_screened_together(some_bags):
    dataset, _ = some_bags
    screening = BagScreening(per_class=True)
    _, whole = evaluated(dataset, screening)
    random = np.random.default_rng(1)
    found = {record["image_id"]: guesses(record, random) for record in dataset}
    evaluators = []
    for has_items in (True, False):
        part = dataset.part([record for record in dataset if bool(record["annotations"]) == has_items], "part")
        evaluator = CocoEvaluator(part, screening=screening)
        evaluator.process(list(part), [{"instances": found[record["image_id"]]} for record in part])
        evaluator.evaluate()
        evaluators.append(evaluator)
    assert evaluators[0].over_sets(evaluators)["screening"] == pytest.approx(whole["screening"], nan_ok=True)


def test_it_is_off_where_nobody_asks(some_bags):
    for screening in (None, BagScreening(enabled=False)):
        evaluator, results = evaluated(some_bags[0], screening)
        assert list(results) == ["bbox"] and evaluator.bags is None


def test_an_expression_that_does_not_fit_is_told_before_the_model_runs(some_bags):
    with pytest.raises(UserError, match=r"screening.group_by='\^case' does not fit"):
        CocoEvaluator(some_bags[0], screening=BagScreening(group_by="^case"))


def test_a_bag_whose_annotations_can_not_be_used_is_neither_clean_nor_a_threat(tmp_path, caplog):
    write_set(tmp_path, count=12)
    source = reference(tmp_path)
    content = json.loads(Path(source["json_file"]).read_text())
    spoilt = content["annotations"][0]["image_id"]
    for annotation in content["annotations"]:
        if annotation["image_id"] == spoilt:
            annotation["bbox"] = [0, 0, 0, 0]
            annotation.pop("segmentation", None)
    Path(source["json_file"]).write_text(json.dumps(content))
    dataset = load_datasets(source)
    bags, _ = BagScreening().score(dataset, {}, 100)
    assert len(bags.bags) == len(dataset) - 1 and spoilt not in bags.bags
    BagScreening().score(dataset, {}, 100)
    assert "1 bag of" in caplog.text and "not known what it holds" in caplog.text


def test_learned_weights_of_views_are_used_and_refused_before_the_model_runs(some_bags, tmp_path):
    dataset, folder = some_bags
    group_by = r"(\d)\."
    evaluator, best = evaluated(dataset, BagScreening(group_by=group_by))
    evaluator.save(tmp_path)
    inputs = inputs_of_files(tmp_path / PREDICTIONS, str(dataset.json_files[0]), f"{folder}/images")
    file = write_views(fit_views(inputs, HitRule(), group_by, "x"), group_by, tmp_path)
    _, fused = evaluated(dataset, BagScreening(group_by=group_by, view_fusion=str(file)))
    told = screen_inputs(with_fused_views(inputs, read_fusion(file), "file", group_by), group_by=group_by, resamples=2)
    due = {f"P_D@{100 * point.asked:g}": 100 * point.detection for point in told.overall.points}
    assert {name: fused["screening"][name] for name in due} == pytest.approx(due, nan_ok=True)
    assert fused["bbox"] == pytest.approx(best["bbox"], nan_ok=True)
    with pytest.raises(UserError, match="there is no file of weights for views"):
        CocoEvaluator(dataset, screening=BagScreening(view_fusion=str(tmp_path / "gone.json")))
