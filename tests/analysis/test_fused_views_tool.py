"""Learned weights for views from the command line: fitted, used for an operating point, judged on other bags."""

import json
import re

import numpy as np
import pytest

from tests.conftest import ROOT

TOOL = ROOT / "tools" / "analyze.py"


def write_bags(folder, seed, named=True, count=80):
    """A COCO file and results of bags of two views: threats are seen in both, false alarms in one, as sure."""
    random, images, annotations, detections = np.random.default_rng(seed), [], [], []
    for number in range(count):
        x, is_threat = float(random.uniform(0, 70)), number % 2 == 0
        for view in ("OL", "SD"):
            image = {"id": len(images) + 1, "file_name": f"b{number}_{view}.png", "width": 100, "height": 100}
            images.append(image | ({"bag": f"b{number}", "view": view} if named else {}))
            thing = {"image_id": image["id"], "category_id": 1, "bbox": [x, 10, 20, 20]}
            if is_threat:
                annotations.append(thing | {"id": len(annotations) + 1, "area": 400, "iscrowd": 0})
            if is_threat or view == "OL":
                detections.append(thing | {"score": float(random.uniform(0.2, 0.9))})
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "gun"}]}
    folder.mkdir(exist_ok=True)
    (folder / "truth.json").write_text(json.dumps(content))
    (folder / "results.json").write_text(json.dumps(detections))
    return folder / "results.json", "--ground-truth", folder / "truth.json"


def percents(text, row):
    return [float(one) for one in re.findall(r"[\d.]+", text.partition(row)[2].splitlines()[0])]


@pytest.mark.parametrize(("named", "group_by"), [(True, ()), (False, ("--group-by", r"^(b\d+)_"))])
def test_weights_are_fitted_and_an_operating_point_holds_on_other_bags(tmp_path, run_tool_here, named, group_by):
    val, test = write_bags(tmp_path / "val", 0, named), write_bags(tmp_path / "test", 1, named)
    fitted = run_tool_here(TOOL, "fuse-views", *val, *group_by, "--belt-axis", "x", "--output", tmp_path)
    assert fitted.returncode == 0, fitted.stderr
    assert percents(fitted.stdout, "the best view")[1] < 50 and percents(fitted.stdout, "not fitted on")[1] == 100
    weights = ("--view-fusion", tmp_path / "view_fusion.json")
    chosen = run_tool_here(TOOL, "operating-point", *val, *group_by, *weights, "--output", tmp_path)
    assert chosen.returncode == 0, chosen.stderr
    on_its_fit = "the weights for views were fitted on this very set"
    assert on_its_fit in chosen.stdout
    point = ("--operating-point", tmp_path / "operating_point.json")
    judged = run_tool_here(TOOL, "screening", *test, *group_by, *point, "--output", tmp_path / "s", "--resamples", 100)
    assert judged.returncode == 0, judged.stderr
    at_point = json.loads((tmp_path / "s/screening.json").read_text())["at_point"]["judgement"]
    assert at_point["detection"]["value"] == 1 and at_point["false_alarms"]["value"] < 0.1
    # the same weights without a point
    alike = run_tool_here(TOOL, "screening", *test, *group_by, *weights, "--output", tmp_path / "w", "--resamples", 100)
    assert alike.returncode == 0, alike.stderr
    overall = [json.loads((tmp_path / name / "screening.json").read_text())["overall"] for name in ("s", "w")]
    assert overall[0] == overall[1] and overall[0]["points"][0]["detection"] == 1
    assert on_its_fit not in judged.stdout + alike.stdout
    own = run_tool_here(TOOL, "screening", *val, *group_by, *weights, "--output", tmp_path / "v", "--resamples", 100)
    assert on_its_fit in own.stdout
    assert any(on_its_fit in note for note in json.loads((tmp_path / "v/screening.json").read_text())["notes"])


def test_what_does_not_fit_is_refused(tmp_path, run_tool_here):
    val = write_bags(tmp_path / "val", 0, named=False, count=10)
    alone = run_tool_here(TOOL, "fuse-views", *val)
    assert alone.returncode == 2 and "no bag of" in alone.stderr and "--group-by '^(.+)_[^_]+$'" in alone.stderr
    group_by = ("--group-by", r"^(b\d+)_")
    assert run_tool_here(TOOL, "fuse-views", *val, *group_by, "--output", tmp_path).returncode == 0
    file = tmp_path / "view_fusion.json"
    for arguments, complaint in (
        (["screening", *val, "--view-fusion", file], "weighs the views of bags, and no bag of"),
        (["screening", *val, *group_by, "--view-fusion", tmp_path / "gone.json"], "no file of weights for views"),
        (["operating-point", *val, *group_by, "--view-fusion", val[0]], "holds no weights for views"),
        (
            ["screening", *val, *group_by, "--view-fusion", file, "--operating-point", file],
            "--view-fusion has no effect beside --operating-point",
        ),
    ):
        answer = run_tool_here(TOOL, *arguments)
        assert answer.returncode == 2 and complaint in answer.stderr, answer.stderr
    content = json.loads(file.read_text())
    file.write_text(json.dumps(content | {"weights": {"knife": [0, 1, 0, 0]}}))
    answer = run_tool_here(TOOL, "screening", *val, *group_by, "--view-fusion", file)
    assert answer.returncode == 2 and "does not fit the classes of the model" in answer.stderr
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/results.json").write_text("[]")
    answer = run_tool_here(TOOL, "fuse-views", tmp_path / "empty/results.json", *val[1:], *group_by)
    assert answer.returncode == 2 and "there is nothing to weigh" in answer.stderr
