"""An operating point: chosen on one set, applied to another, refused for a model of other classes."""

import json
import math

import numpy as np
import pytest

from tests.analysis.cases import CATEGORIES, GUN, KNIFE, inputs_of, thing
from tests.conftest import ROOT
from xray_lazy.analysis.screening.operating_point import OperatingPoint, truth_fingerprint
from xray_lazy.analysis.screening.operating_point_choice import choose_operating_point, write_operating_point
from xray_lazy.analysis.screening.screening import screen_inputs
from xray_lazy.analysis.screening.screening_text import notes_of
from xray_lazy.errors import UserError

BOX, FAR = (10, 10, 20, 20), (70, 70, 20, 20)


def bags(seed, threats=40, clean=60):
    """Guns are found for sure among noisy false alarms, knives with low scores and none."""
    random = np.random.default_rng(seed)
    annotations = [thing(n, GUN if n % 2 else KNIFE, BOX) for n in range(1, threats + 1)]
    detections = [
        thing(n, GUN if n % 2 else KNIFE, BOX, score=float(0.2 * random.random() + (0.7 if n % 2 else 0.2)))
        for n in range(1, threats + 1)
    ]
    detections += [thing(threats + n, GUN, FAR, score=float(0.85 * random.random())) for n in range(1, clean + 1)]
    inputs = inputs_of(annotations, detections, images=threats + clean, dataset=f"set {seed}")
    for image in inputs.ground_truth["images"]:
        image["file_name"] = f"scans/{seed}_{image['file_name']}"
    return inputs


@pytest.fixture(scope="module")
def chosen():
    return choose_operating_point(bags(0), 0.05)


def test_it_is_read_as_it_was_written_and_judged_on_another_set(chosen, tmp_path):
    path = write_operating_point(chosen, tmp_path)
    written = json.loads(path.read_text())
    assert written["schema"] == 1 and written["chosen_on"]["dataset"] == "set 0" and written["chosen_on"]["clean"] == 60
    assert written["judgement"]["false_alarms"]["value"] <= 0.05
    point = OperatingPoint.read(path)
    assert point.thresholds == chosen.thresholds and point.of_classes(["knife", "gun"], "") == [
        chosen.thresholds["knife"],
        chosen.thresholds["gun"],
    ]
    # all knives, at their lowest score, and the guns above 57 of 60 false alarms
    scores = {d["score"] for d in bags(0).detections if d["category_id"] == KNIFE}
    assert chosen.thresholds["knife"] == min(scores) and chosen.judgement.false_alarms.value == 3 / 60
    assert chosen.judgement.classes[1].value == 1 and chosen.judgement.detection.value > 0.7
    at = screen_inputs(bags(1), point=point).at_point
    false = [d["score"] for d in bags(1).detections if d["image_id"] > 40]
    assert at.judgement.false_alarms.value == np.mean(np.array(false) >= chosen.thresholds["gun"])
    assert at.notes == () and at.chosen_on == "set 0"
    # one threshold for both would lose half of all
    assert chosen.common_judgement.detection.value < 0.6 < at.judgement.detection.value


def test_it_is_told_that_the_set_is_the_one_it_was_chosen_on(chosen, tmp_path):
    point = OperatingPoint.read(write_operating_point(chosen, tmp_path))
    [note] = screen_inputs(bags(0), point=point).at_point.notes
    assert "chosen on this very set" in note
    moved = bags(0)
    for image in moved.ground_truth["images"]:
        image["file_name"] = image["file_name"].replace("scans", "elsewhere")
    assert truth_fingerprint(moved.ground_truth) == point.chosen_on["fingerprint"]
    assert truth_fingerprint(bags(0, threats=41).ground_truth) != point.chosen_on["fingerprint"]
    [_, note] = screen_inputs(bags(0), group_by="bag_[0-9]+", point=point).at_point.notes
    assert note == "bags are joined in another way than where it was chosen: not at all there, bag_[0-9]+ here"


def test_it_is_told_that_some_images_are_those_it_was_chosen_on(chosen, tmp_path):
    point = OperatingPoint.read(write_operating_point(chosen, tmp_path))
    part = bags(0)
    part.ground_truth["images"] = part.ground_truth["images"][:30]
    part.ground_truth["annotations"] = part.ground_truth["annotations"][:30]
    part.detections[:] = [one for one in part.detections if one["image_id"] <= 30]
    [note] = screen_inputs(part, point=point).at_point.notes
    assert "30 of 40 images that it was chosen on" in note
    # other images of these names are others
    renamed = bags(1)
    for image in renamed.ground_truth["images"]:
        image["file_name"] = image["file_name"].replace("1_", "0_", 1)
    for annotation in renamed.ground_truth["annotations"]:
        annotation["bbox"][0] += 1
    assert screen_inputs(renamed, point=point).at_point.notes == ()


def test_too_few_bags_are_told():
    notes = notes_of(choose_operating_point(bags(0, threats=4, clean=3), 0.05))
    assert [note.split(" ")[0] for note in notes] == ["3", "4", "the"]
    assert "59 clean bags could" in notes[0] and "on others they are worse" in notes[2]


def test_a_class_without_items_is_told_and_one_that_never_alarms_is_null(tmp_path):
    one = inputs_of([thing(1, GUN, BOX)], [thing(1, GUN, BOX, score=0.4), thing(2, GUN, FAR, score=0.5)], images=2)
    chosen = choose_operating_point(one, 0.05)
    assert chosen.unseen == ("knife",) and any("no bag has knife" in note for note in notes_of(chosen))
    path = write_operating_point(chosen, tmp_path)
    assert json.loads(path.read_text())["thresholds"] == {"gun": None, "knife": None}
    assert OperatingPoint.read(path).thresholds == {"gun": math.inf, "knife": math.inf}


@pytest.mark.parametrize("detections", [[], [thing(n, GUN, BOX, score=0.5) for n in (1, 2)]], ids=["none", "equal"])
def test_a_point_at_which_nothing_ever_alarms_is_told(detections):
    silent = choose_operating_point(inputs_of([thing(1, GUN, BOX)], detections, images=2), 0.05)
    assert any("no class ever alarms" in note for note in notes_of(silent))
    assert not any("no class ever alarms" in note for note in notes_of(choose_operating_point(bags(0), 0.05)))


@pytest.mark.parametrize(
    ("annotations", "lacking", "fix"),
    [([], "a bag with a threat", "add bags with a threat"), ([1, 2], "a clean bag", "add clean bags")],
)
def test_a_set_of_one_kind_of_bags_is_refused(annotations, lacking, fix):
    one_kind = inputs_of([thing(n, GUN, BOX) for n in annotations], [thing(1, GUN, BOX, score=0.4)], images=2)
    with pytest.raises(UserError, match=f"has not {lacking}") as refused:
        choose_operating_point(one_kind, 0.05)
    assert refused.value.fix.startswith(fix)


def test_other_classes_are_refused_with_the_nearest_name(chosen, tmp_path):
    point = OperatingPoint.read(write_operating_point(chosen, tmp_path))
    with pytest.raises(UserError) as refused:
        point.of_classes(["gun", "knive"], "the model x")
    assert "no threshold for knive and thresholds for knife, which the model x does not have" in refused.value.message
    assert "did you mean knive?" in refused.value.fix


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "is not a JSON file"),
        ("[]", "holds no operating point"),
        ('{"schema": 1}', "holds no operating point"),
        (
            '{"schema": 1, "thresholds": {"a": "high"}, "false_alarms": 0.1, "chosen_on": {}}',
            "holds no operating point",
        ),
        ('{"schema": 1, "thresholds": {"a": 0.5}, "false_alarms": 5, "chosen_on": {}}', "not a share between 0 and 1"),
        ('{"schema": 1, "thresholds": {"a": 0.5}, "false_alarms": 0.1, "chosen_on": []}', "what it was chosen on"),
        (
            '{"schema": 1, "thresholds": {"a": 0.5}, "false_alarms": 0.1, "chosen_on": {"image_sample": 5}}',
            "not a list of texts",
        ),
        (
            '{"schema": 1, "thresholds": {"a": 0.5}, "false_alarms": 0.1, "chosen_on": {"image_sample": [[1]]}}',
            "not a list of texts",
        ),
        ('{"schema": 2}', "is of a newer version"),
    ],
)
def test_another_file_is_refused(tmp_path, content, words):
    path = tmp_path / "file.json"
    path.write_text(content)
    with pytest.raises(UserError, match=words):
        OperatingPoint.read(path)
    with pytest.raises(UserError, match="there is no operating point"):
        OperatingPoint.read(tmp_path / "gone.json")


def test_what_a_file_does_not_tell_is_not_compared(tmp_path):
    path = tmp_path / "file.json"
    content = {"schema": 1, "thresholds": {"knife": 0.5, "gun": 0.5}, "false_alarms": 0.1, "chosen_on": {}}
    path.write_text(json.dumps(content))
    assert screen_inputs(bags(1), resamples=100, point=OperatingPoint.read(path)).at_point.notes == ()


@pytest.fixture
def files(tmp_path):
    """Ground truth and detections of `bags`, twice."""
    for seed in (0, 1):
        inputs = bags(seed)
        (tmp_path / f"truth_{seed}.json").write_text(json.dumps(inputs.ground_truth))
        (tmp_path / f"found_{seed}.json").write_text(json.dumps(inputs.detections))
    return tmp_path


def test_the_tool_chooses_on_one_set_and_judges_on_another(run_tool_here, files):
    tool = ROOT / "tools" / "analyze.py"
    given = [files / "found_0.json", "--ground-truth", files / "truth_0.json", "--output", files]
    run = run_tool_here(tool, "operating-point", *given, "--false-alarms", 5)
    assert run.returncode == 0, run.stderr
    assert "100 bags of 100 images, 40 with a threat, 60 clean" in run.stdout and "one threshold" in run.stdout
    point = files / "operating_point.json"
    given = [files / "found_1.json", "--ground-truth", files / "truth_1.json", "--operating-point", point]
    run = run_tool_here(tool, "screening", *given, "--resamples", 100)
    assert run.returncode == 0, run.stderr
    assert "chosen on truth_0 for a P_FA of at most 5 %, gives here" in run.stdout
    written = json.loads((files / "analysis" / "found_1" / "screening" / "screening.json").read_text())
    assert list(written["at_point"]["thresholds"]) == [one["name"] for one in CATEGORIES]


@pytest.mark.parametrize("case", ["no clean bag", "beside OTHER", "a file of another kind", "which of one"])
def test_what_can_not_be_done_is_one_message(run_tool_here, files, case):
    tool, found, truth = ROOT / "tools" / "analyze.py", files / "found_0.json", files / "truth_0.json"
    before = truth.read_bytes()
    if case == "beside OTHER":
        given = ["screening", found, found, "--operating-point", files / "gone.json"]
        words = "--operating-point has no effect beside OTHER"
    elif case == "which of one":
        given, words = ["screening", found, "--evaluation", "iter_3"], "--evaluation has no effect on COCO results"
    elif case == "no clean bag":
        given, words = ["operating-point", found, "--group-by", "(0)"], "has not a clean bag"
    else:
        (files / "operating_point.json").write_bytes(before)
        given, words = ["operating-point", found, "--output", files], "is not an operating point that could be replaced"
    run = run_tool_here(tool, *given, "--ground-truth", truth)
    assert run.returncode == 2 and words in run.stderr and "Traceback" not in run.stderr
    assert not (files / "operating_point.json").exists() or (files / "operating_point.json").read_bytes() == before
