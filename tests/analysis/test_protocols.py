"""tools/analyze.py protocol: the figures of papers, from the detections of any evaluation."""

import json

import numpy as np
import pytest

from tests.analysis.cases import GUN, KNIFE, inputs_of, thing
from tests.conftest import ROOT
from xray_lazy.analysis.published_protocols import dvxray, eds, opixray, pidray, sixray, voc
from xray_lazy.analysis.subsets import read_subset
from xray_lazy.errors import UserError
from xray_lazy.evaluation.coco_metrics import coco_metrics

NAMES = ("easy", "hard", "hidden")


def rows_of(result):
    return {row.name: row.values for row in result.rows}


def some(seed=0, images=30, masks=False, names=lambda number: f"scans/{number}.png", **more):
    random = np.random.default_rng(seed)
    annotations, detections = [], []
    for number in range(1, images + 1):
        for category in (GUN, KNIFE):
            if random.random() < 0.6:
                box = [*random.integers(0, 50, size=2), *random.integers(10, 50, size=2)]
                annotations.append(thing(number, category, box))
                moved = np.array(box) + [*random.integers(-4, 5, size=2), 0, 0]
                detections.append(thing(number, category, moved, score=float(random.random())))
            if random.random() < 0.5:
                box = [*random.integers(0, 70, size=2), 20, 20]
                detections.append(thing(number, category, box, score=float(random.random())))
    inputs = inputs_of(annotations, detections, images=images, masks=masks, **more)
    for number, image in enumerate(inputs.ground_truth["images"], 1):
        image["file_name"] = names(number)
    return inputs


def part_of(inputs, places):
    ids = {inputs.ground_truth["images"][place]["id"] for place in places}
    truth = {
        **inputs.ground_truth,
        "images": [one for one in inputs.ground_truth["images"] if one["id"] in ids],
        "annotations": [one for one in inputs.ground_truth["annotations"] if one["image_id"] in ids],
    }
    return truth, [one for one in inputs.detections if one["image_id"] in ids]


@pytest.mark.parametrize("masks", [False, True])
def test_pidray_has_each_subset_and_both_overall_figures(masks):
    inputs = some(masks=masks, names=lambda number: f"test/xray_{NAMES[number % 3]}{number:05}.png")
    result = pidray(inputs, {})
    rows = rows_of(result)
    assert list(rows) == [*NAMES, "overall, v1: mean of the three", "overall, v2: of all images"]
    assert result.columns == ("box AP", "box AP50", "mask AP", "mask AP50")[: 4 if masks else 2]
    for place, name in enumerate(NAMES):
        part = part_of(inputs, [number - 1 for number in range(1, 31) if number % 3 == place])
        for column, task in enumerate(("bbox", "segm")[: 1 + masks]):
            expected = coco_metrics(*part, task, 100).summary
            assert rows[name][2 * column : 2 * column + 2] == pytest.approx((expected["AP"], expected["AP50"]))
    whole = coco_metrics(inputs.ground_truth, inputs.detections, "bbox", 100).summary
    assert rows["overall, v2: of all images"][0] == pytest.approx(whole["AP"])
    assert rows["overall, v1: mean of the three"][0] == pytest.approx(np.mean([rows[name][0] for name in NAMES]))


def test_pidrays_subsets_may_be_lists():
    inputs = some()
    parts = {name: {str(number) for number in range(1, 31) if number % 3 == k} for k, name in enumerate(NAMES)}
    by_name = pidray(some(names=lambda number: f"{NAMES[number % 3]}/{number}.png"), {})
    assert rows_of(pidray(inputs, parts)) == rows_of(by_name)
    by_set = some(scanners=[NAMES[number % 3] for number in range(1, 31)])
    assert rows_of(pidray(by_set, {})) == rows_of(by_name)
    with pytest.raises(UserError, match="30 of 30 images of bags are not of just one of easy, hard, hidden"):
        pidray(inputs, {})
    with pytest.raises(UserError, match="the subsets are easy, but the protocol has easy, hard, hidden"):
        pidray(inputs, {"easy": parts["easy"]})
    with pytest.raises(UserError, match="no image of the subset hard is in the ground truth: it names P9"):
        pidray(inputs, {**parts, "hard": {"P9"}})


def test_opixray_has_each_level_of_occlusion_told_by_lists_or_annotations():
    inputs = some()
    for annotation in inputs.ground_truth["annotations"]:
        annotation["occlusion"] = annotation["image_id"] % 3 + 1
    with_items = {annotation["image_id"] for annotation in inputs.ground_truth["annotations"]}
    lists = {f"OL{level}": {str(n) for n in with_items if n % 3 + 1 == level} for level in (1, 2, 3)}
    rows = rows_of(opixray(inputs, {}))
    assert list(rows) == ["OL1", "OL2", "OL3", "all", "gun", "knife"] and rows == rows_of(opixray(inputs, lists))
    assert rows["all"] == pytest.approx(np.mean([rows["gun"], rows["knife"]], axis=0))
    truth, detections = part_of(inputs, [n - 1 for n in with_items if n % 3 == 1])
    alone = inputs_of([], detections, ground_truth=truth)
    assert rows["OL2"] == pytest.approx(rows_of(voc(alone, {}))["all"])
    [note] = opixray(some(), {}).notes
    assert "--subset OL1=" in note


def test_sixray_tells_images_with_an_item_from_the_others():
    # of the gun the best score is on an image without one, wherever the boxes lie
    box, far = (0, 0, 10, 10), (60, 60, 10, 10)
    detections = [thing(3, GUN, box, score=0.9), thing(1, GUN, far, score=0.8), thing(2, KNIFE, box, score=0.3)]
    inputs = inputs_of([thing(1, GUN, box), thing(2, KNIFE, box)], detections)
    assert rows_of(sixray(inputs, {})) == {"gun": (50,), "knife": (100,), "mean": (75,)}
    few = sixray(inputs, {"10": {"bag_1", "bag_2"}})
    assert few.columns == ("AP, 10", "AP, all") and rows_of(few)["gun"] == (100, 50)


def test_dvxray_tells_bags_by_the_best_of_their_views():
    """Bags A and B have a gun, each seen in one view; C is clean. A alarms in the view that doesn't show it."""
    names = ("A_OL", "A_SD", "B_OL", "B_SD", "C_OL", "C_SD")
    box = (0, 0, 10, 10)
    found = [thing(n, GUN, box, score=score) for n, score in ((1, 0.1), (2, 0.9), (4, 0.3), (5, 0.8), (6, 0.2))]
    inputs = inputs_of([thing(1, GUN, box), thing(4, GUN, box)], found, images=6)
    for image, name in zip(inputs.ground_truth["images"], names, strict=True):
        image["file_name"] = f"Samples/{name}.png"
    result = dvxray(inputs, {})
    assert result.columns == ("AP, OL", "AP, SD", "AP, bags")
    # OL: C .8, A .1, B never; SD: A .9, B .3, C .2; bags: A .9, C .8, B .3
    assert rows_of(result)["gun"] == pytest.approx((100 * (1 / 2 + 2 / 3) / 2, 100, 100 * (1 + 2 / 3) / 2))
    assert [row.images for row in result.rows] == [2, 0, 3]
    inputs.ground_truth["images"][0]["file_name"] = "A.png"
    with pytest.raises(UserError, match=r"A\.png is not named by its bag and view"):
        dvxray(inputs, {})
    with pytest.raises(UserError, match="no subsets but its views"):
        dvxray(inputs, {"x": {"A"}})


def run_with(folder, trained_on, results):
    """A run's record, and the metrics of its evaluations."""
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps({"datasets": {"train": {"name": trained_on}}}))
    for name, values in results.items():
        at = folder / "evaluation" / name
        at.mkdir(parents=True)
        (at / "metrics.json").write_text(json.dumps({"pictures": 5, **values}))
    return str(folder)


def test_eds_is_of_runs_on_scanners_that_they_were_not_trained_on(tmp_path):
    first = run_with(
        tmp_path / "one",
        "xray_domain1_train",
        {
            "xray_domain1_val/iter_9": {"bbox": {"AP": 90, "AP50": 99}},
            "xray_domain2_val/iter_4": {"bbox": {"AP": 30, "AP50": 50}},
            "xray_domain2_val/iter_9": {"bbox": {"AP": 20, "AP50": 60}},
            "all/iter_9": {"mean_of": ["xray_domain2_val", "xray_domain3_val"], "bbox": {"AP": 15, "AP50": 40}},
            "xray_domain3_val/iter_9": {"bbox": {"AP": 10, "AP50": 20}},
        },
    )
    second = run_with(
        tmp_path / "two", "xray_domain2_train", {"xray_domain1_val/iter_9": {"bbox": {"AP": 30, "AP50": 40}}}
    )
    found = eds([first, second])
    assert rows_of(found) == {
        "domain1 -> domain2": (50, 30),
        "domain1 -> domain3": (20, 10),
        "domain2 -> domain1": (40, 30),
        "mean": pytest.approx((110 / 3, 70 / 3)),
    }
    assert found.notes == ("EDS' mean is of six transfers, here are 3",)
    assert rows_of(eds([first], "newest"))["domain1 -> domain2"] == (60, 20)
    with pytest.raises(UserError, match="has no evaluation on another scanner"):
        eds([run_with(tmp_path / "three", "xray_a_train", {"xray_a_val/iter_9": {"bbox": {"AP": 1}}})])
    with pytest.raises(UserError, match="does not tell what the run was trained on"):
        eds([str(tmp_path)])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.txt", "P0001\nP0002.jpg \n\n"),
        ("test.csv", "name,Gun,Knife\nP0001,1,-1\nP0002,-1,-1\n"),
        ("set.json", json.dumps({"images": [{"file_name": "a/P0001.png"}, {"file_name": "P0002.png"}]})),
    ],
)
def test_lists_of_images_have_several_forms(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    assert read_subset(str(tmp_path / name)) == {"P0001", "P0002"}
    (tmp_path / name).write_text('{"images": []}' if name.endswith("json") else "\n")
    with pytest.raises(UserError, match="names no images"):
        read_subset(str(tmp_path / name))


@pytest.fixture
def files(tmp_path):
    inputs = some(names=lambda number: f"{NAMES[number % 3]}_{number}_{('OL', 'SD')[number % 2]}.png")
    (tmp_path / "truth.json").write_text(json.dumps(inputs.ground_truth))
    (tmp_path / "found.json").write_text(json.dumps(inputs.detections))
    (tmp_path / "first.txt").write_text("hard_1_SD\n")
    return tmp_path


@pytest.mark.parametrize("name", ["pidray", "opixray", "sixray", "dvxray", "voc"])
def test_the_tool_prints_and_writes_a_table(run_tool_here, files, name):
    given = ["--ground-truth", files / "truth.json"]
    run = run_tool_here(ROOT / "tools" / "analyze.py", "protocol", name, files / "found.json", *given)
    assert run.returncode == 0, run.stderr
    written = json.loads((files / "analysis" / "found" / f"protocol_{name}.json").read_text())
    assert all(row["name"] in run.stdout for row in written["rows"]) and written["protocol"] == name


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["voc", "found.json", "found.json"], "voc is of one run, and 2 are given"),
        (["eds", "found.json", "--subset", "a=first.txt"], "--subset has no effect with eds"),
        (["voc", "found.json", "--subset", "first.txt"], "is not NAME=FILE"),
        (["voc", "found.json", "--subset", "a=gone.txt"], "gone.txt can't be read as a list of images"),
        (["opixray", "found.json", "--subset", "OL1=first.txt"], "--subset OL1=FILE --subset OL2=FILE"),
    ],
)
def test_what_is_for_the_person_to_fix_is_one_message(run_tool_here, files, arguments, words, monkeypatch):
    monkeypatch.chdir(files)
    given = [] if arguments[0] == "eds" else ["--ground-truth", "truth.json"]
    run = run_tool_here(ROOT / "tools" / "analyze.py", "protocol", *arguments, *given)
    assert run.returncode == 2 and words in run.stderr and "Traceback" not in run.stderr
