"""tools/analyze.py as a person runs it."""

import csv
import json

import cv2
import pytest

from tests.conftest import ROOT
from tests.data.coco_sets import write_set
from xray_lazy.evaluation.coco_metrics import encode_segmentation

KNIFE = "knife $\\frac$"  # what matplotlib would take for a formula


@pytest.fixture
def analyze_tool(run_tool_here):
    return lambda *arguments: run_tool_here(ROOT / "tools" / "analyze.py", *arguments)


@pytest.fixture(scope="module")
def bags(tmp_path_factory):
    """A set of 8 images, and detections of which one has the wrong class and one is nowhere."""
    folder = tmp_path_factory.mktemp("bags")
    content = write_set(folder, count=8, classes=("gun", KNIFE))
    found = []
    for number, annotation in enumerate(content["annotations"]):
        shape = {name: annotation[name] for name in ("image_id", "category_id", "bbox", "segmentation")}
        shape["segmentation"] = encode_segmentation(shape["segmentation"], 48, 64)
        found.append({**shape, "score": 0.9 - 0.05 * number})
    found[1]["category_id"] = 1
    (folder / "found.json").write_text(json.dumps(found))
    (folder / "nothing.json").write_text("[]")
    return folder


def test_detections_are_analyzed_into_tables_plots_and_images(analyze_tool, bags):
    truth = ("--ground-truth", bags / "annotations.json", "--images", bags / "images")
    run = analyze_tool("detections", "--predictions", bags / "found.json", *truth)
    assert run.returncode == 0, run.stderr
    folder = bags / "analysis" / "found"
    assert str(folder) in run.stdout and f"{KNIFE} is taken for gun in 1 of 2 cases" in run.stdout
    analysis = json.loads((folder / "analysis.json").read_text())
    assert (analysis["schema"], analysis["images"], sorted(analysis["tasks"])) == (2, 8, ["bbox", "segm"])
    for task, result in analysis["tasks"].items():
        rows = list(csv.DictReader((folder / f"{task}_classes.csv").open()))
        assert [row["name"] for row in rows] == ["gun", KNIFE]
        assert float(rows[0]["ap"]) == pytest.approx(result["classes"][0]["ap"], abs=1e-3)
        for name in ("errors", "precision_recall", "f1", "calibration", "groups", "confusion"):
            assert cv2.imread(str(folder / f"{task}_{name}.png")).std() > 5
        suspects = list(csv.DictReader((folder / f"{task}_label_suspects.csv").open()))
        assert [(s["kind"], s["annotation_id"], s["annotated_class"]) for s in suspects] == [("class", "101", KNIFE)]
    segm = analysis["tasks"]["segm"]
    for drawn in (segm["worst_pictures"][0]["drawn"], segm["label_suspects"][0]["drawn"]):
        assert cv2.imread(str(folder / drawn)) is not None


def test_files_of_the_same_name_that_are_no_results_stay(analyze_tool, bags, tmp_path):
    place = ("--ground-truth", bags / "annotations.json", "--images", bags / "images", "--output", tmp_path)
    commands = {
        "analysis.json": ("detections", "--predictions", bags / "found.json"),
        "comparison.json": ("compare", bags / "nothing.json", bags / "found.json"),
        "screening.json": ("screening", bags / "found.json"),
    }
    for name, command in commands.items():
        (tmp_path / name).write_text('{"mine": 1}')
        run = analyze_tool(*command, *place)
        assert run.returncode == 2 and f"{name} is there already, and is not a" in run.stderr
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == dict.fromkeys(commands, '{"mine": 1}')


def test_detections_beyond_those_that_count_are_told_and_counted_on_demand(analyze_tool, bags, tmp_path):
    found = json.loads((bags / "found.json").read_text())[:1]
    beyond = [{**found[0], "score": 0.99, "bbox": [0, 0, 2, 2]}, *found]
    for one in beyond:
        del one["segmentation"]
    (tmp_path / "beyond.json").write_text(json.dumps(beyond))
    truth = ("--ground-truth", bags / "annotations.json", "--images", bags / "images", "--count", 0)
    for most, told in ((1, True), (2, False)):
        run = analyze_tool("detections", "--predictions", tmp_path / "beyond.json", *truth, "--max-detections", most)
        assert run.returncode == 0, run.stderr
        assert ("1 detection beyond the 1 best of a class on an image is not counted" in run.stdout) == told
        assert ("item that none of the counted detections is near" in run.stdout) == told


def test_a_model_that_finds_nothing_is_told_so(analyze_tool, bags, tmp_path):
    truth = ("--ground-truth", bags / "annotations.json", "--images", bags / "images", "--output", tmp_path)
    run = analyze_tool("detections", "--predictions", bags / "nothing.json", *truth)
    assert run.returncode == 0, run.stderr
    assert "nothing is found yet" in run.stdout
    assert "lowest AP" not in run.stdout and "best score threshold" not in run.stdout


def test_two_files_are_compared(analyze_tool, bags, tmp_path):
    run = analyze_tool(
        *("compare", bags / "nothing.json", bags / "found.json", "--ground-truth", bags / "annotations.json"),
        *("--resamples", 100, "--output", tmp_path / "compared"),
    )
    assert run.returncode == 0, run.stderr
    assert "bbox: items in so few images say nothing of other images (AP 0.0 -> " in run.stdout
    comparison = json.loads((tmp_path / "compared" / "comparison.json").read_text())
    assert comparison["tasks"]["bbox"][0]["verdict"] == "too few images"
    assert comparison["bags"] == comparison["images"]
    assert (tmp_path / "compared" / "bbox_comparison.png").is_file()
    assert (tmp_path / "compared" / "comparison.csv").read_text().startswith("task,name,first,second,")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("detections",), "give either OUTPUT_DIR or --predictions"),
        (("detections", "--predictions", "x.json"), "--predictions needs --ground-truth"),
        (("detections", "no/such/run"), "there is no run folder no/such/run"),
        (("compare", "a.json", "b.json"), "a.json needs --ground-truth"),
        (("compare", "a", "b", "--images", "i"), "--images has no effect without a JSON file as --ground-truth"),
        (("detections", "a", "--images", "i"), "--images has no effect without a JSON file as --ground-truth"),
        (
            ("detections", "--predictions", "x.json", "--ground-truth", "y.json", "--evaluation", "newest"),
            "--evaluation has no effect with --predictions",
        ),
    ],
)
def test_what_is_missing_is_said_in_one_line(analyze_tool, arguments, message):
    run = analyze_tool(*arguments)
    assert run.returncode == 2
    assert message in run.stderr and "fix: " in run.stderr and "Traceback" not in run.stderr


def test_help_has_examples(analyze_tool):
    assert "examples:" in analyze_tool("--help").stdout
