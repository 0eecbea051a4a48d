"""The report's tab of detection against false alarms."""

import json

import numpy as np
import pytest
from omegaconf import OmegaConf

from tests.report.made_run import evaluate, make_run, make_set
from tests.report.test_report import blocks_of, notes, table
from xray_lazy.analysis.screening import screening as analysis_screening
from xray_lazy.config import load_config
from xray_lazy.engine.evaluated_sets import nodes_of_sets
from xray_lazy.evaluation.screening.bags import score_bags
from xray_lazy.evaluation.screening.curve import Curve
from xray_lazy.report import screening_blocks
from xray_lazy.report.run_files import read_run
from xray_lazy.report.write import make_tabs, write_report

CLEAN = {3: 0.4, 7: 0.2}  # false alarms by the number of the image; the third clean bag has none


def with_false_alarms(run):
    """Below all scores of the run, so that AP stays as it is."""
    for path in run.glob("evaluation/*/*/predictions.json"):
        found = json.loads(path.read_text())
        alarms = [
            {**found[0], "image_id": 10 + number, "bbox": [1, 1, 9, 9], "score": score}
            for number, score in CLEAN.items()
        ]
        path.write_text(json.dumps(found + alarms))
    return run


def choice_of(run):
    return next(block for block in blocks_of(run, "screening") if block.kind == "threshold_choice")


def test_the_tab_has_curves_rates_classes_and_a_choice(run):
    blocks = blocks_of(with_false_alarms(run), "screening")
    charts = next(block for block in blocks if block.kind == "charts").charts
    assert [chart.title for chart in charts] == ["ROC", "ROC up to 20 %", "FROC"]
    rates = table(blocks, "P_D at P_FA")
    assert [row[0].value for row in rates.rows] == [1, 2, 5, 10]
    assert [row[0].text for row in table(blocks, "By class").rows] == ["<b>gun", "knife & fork"]
    assert "3 clean bags can't show a P_FA" in notes(blocks)


def test_the_choice_counts_what_each_threshold_gives(run):
    choice = choice_of(with_false_alarms(run))
    assert (choice.clean, choice.threats, len(choice.missed)) == (3, 9, 9)
    assert [(bag.name, bag.score) for bag in choice.false] == [("bag_3.png", 0.4), ("bag_7.png", 0.2)]
    assert choice.false_counts[-1] == 2 and choice.false_counts[choice.start] == 0
    # all that is found lies above the false alarms, so that it is found where nothing else alarms
    assert choice.detected_counts[choice.start] == choice.detected_counts[-1] == max(choice.detected_counts)
    found = [bag.score for bag in choice.missed if bag.score is not None]
    assert found == sorted(found) and len(found) == choice.detected_counts[-1]
    assert all(bag.shot.source.startswith("data:image/jpeg") for bag in (*choice.missed, *choice.false))
    assert all(max(bag.shot.width, bag.shot.height) <= 320 for bag in choice.missed)


def test_named_and_drawn_bags_are_limited(run, monkeypatch):
    monkeypatch.setattr(screening_blocks, "MOST_NAMED", 4)
    monkeypatch.setattr(screening_blocks, "MOST_THUMBNAILS", 2)
    choice = choice_of(run)
    assert len(choice.missed) == 4 and [bag.shot is not None for bag in choice.missed] == [True, True, False, False]
    assert choice.threats == 9


def test_bags_are_scored_once(run, monkeypatch):
    scored = []
    monkeypatch.setattr(analysis_screening, "score_bags", lambda *of: scored.append(1) or score_bags(*of))
    blocks_of(run, "screening")
    assert len(scored) == 1


def test_bags_are_joined_and_detections_count_as_in_the_runs_evaluations(run, tmp_path, monkeypatch):
    screened = "dataloader.evaluator.screening"
    overrides = [f"{screened}.hit=centre", f'{screened}.group_by="^(bag_.)"']
    other = with_false_alarms(make_run(tmp_path / "joined", monkeypatch, overrides))
    choice = choice_of(other)
    assert {bag.name for bag in (*choice.missed, *choice.false)} <= {f"bag_{n}" for n in range(10)}
    assert (choice.clean, choice.threats) == (2, 8)  # the images 1, 10 and 11 are one bag
    assert "all images whose file names have the same part" in notes(blocks_of(other, "screening"))
    assert "centre in the item's box" in notes(blocks_of(other, "screening"))
    assert all(bag.shot.source.startswith("data:image/jpeg") for bag in (*choice.missed, *choice.false))


def test_a_curve_goes_by_steps_to_the_end():
    scores = np.array([0.5, 0.3, 0.9, 0.4])
    curve = Curve.of(np.array([False, False, True, True]), scores, scores)
    x, y = screening_blocks._staircase(curve)
    assert list(zip(x, y, strict=True)) == [
        (0, 50),
        (50, 50),
        (50, 100),
        (100, 100),
        (100, 100),
        (100, 100),
        (100, 100),
    ]
    assert screening_blocks._up_to(x, y, 20) == ([0, 20], [50, 50])


def test_several_runs_have_a_curve_each_and_no_slider(run, tmp_path, monkeypatch):
    runs = [run, make_run(tmp_path / "other", monkeypatch)]
    blocks = next(tab for tab in make_tabs([read_run(one) for one in runs]) if tab.id == "screening").blocks
    charts = next(block for block in blocks if block.kind == "charts").charts
    assert all([series.name for series in chart.series] == ["run", "other"] for chart in charts)
    assert not any(block.kind == "threshold_choice" for block in blocks)
    assert table(blocks, "run: By class") and table(blocks, "other: By class")


@pytest.fixture
def run_on_two_sets(tmp_path, data, monkeypatch):
    """A run whose model finds most of one of its test sets, little of the other; folder and config."""
    sets = []
    for name in ("near", "far"):
        at = make_set(tmp_path / name)
        sets.append(f"{{name: xray_{name}_val, json_file: {at}/annotations.json, image_root: {at}/images}}")
    overrides = [f"++dataloader.test.dataset.names=[{','.join(sets)}]", "dataloader.test_apart=True"]
    folder = make_run(tmp_path / "apart", monkeypatch, overrides, evaluations=())
    found = {}
    for node, chance in zip(
        nodes_of_sets(load_config(folder / "config.yaml").dataloader).values(), (0.9, 0.2), strict=True
    ):
        name = node.test.dataset.names.name
        found[name] = evaluate(folder, OmegaConf.create({"dataloader": node}), 39, chance)
    aps = {task: [one[f"{task}/AP"] for one in found.values()] for task in ("bbox", "segm")}
    both = {task: {"AP": np.mean(values)} for task, values in aps.items()}
    assert aps["bbox"][0] > aps["bbox"][1] + 10
    mean = folder / "evaluation" / "xray_near_val+xray_far_val" / "iter_39"
    mean.mkdir(parents=True)
    (mean / "metrics.json").write_text(
        json.dumps({"mean_of": ["xray_near_val", "xray_far_val"], "pictures": 24, **both})
    )
    record = json.loads((folder / "run.json").read_bytes())
    record["datasets"] = {"test": {"name": mean.parent.name}}
    (folder / "run.json").write_text(json.dumps(record))
    return folder


def test_sets_that_were_evaluated_apart_are_screened_as_one(run_on_two_sets):
    blocks = blocks_of(run_on_two_sets, "screening")
    choice = next(block for block in blocks if block.kind == "threshold_choice")
    assert (choice.clean, choice.threats) == (6, 18)
    assert any(block.kind == "images" for block in blocks_of(run_on_two_sets, "images"))


def test_a_set_that_has_changed_since_it_was_evaluated_is_named(run_on_two_sets):
    path = run_on_two_sets / "evaluation" / "xray_far_val" / "iter_39" / "metrics.json"
    content = json.loads(path.read_bytes())
    content["bbox"]["AP"] += 5
    path.write_text(json.dumps(content))
    assert "xray_far_val has changed since it was evaluated: bbox/AP was" in notes(blocks_of(run_on_two_sets, "errors"))


def test_without_clean_bags_classes_are_judged_alone(tmp_path, monkeypatch):
    data = make_set(tmp_path / "full", images=3)
    monkeypatch.setenv("TINY_SET", str(data))
    blocks = blocks_of(make_run(tmp_path / "run", monkeypatch), "screening")
    assert "every bag has a threat" in notes(blocks)
    [chart] = next(block for block in blocks if block.kind == "charts").charts
    assert chart.title == "FROC" and not any(block.kind == "threshold_choice" for block in blocks)
    assert table(blocks, "By class").rows[0][3].value is not None


@pytest.mark.parametrize("case", ["no evaluation", "no data"])
def test_without_bags_to_judge_there_is_no_tab(tmp_path, data, monkeypatch, case):
    run = make_run(tmp_path / "run", monkeypatch, evaluations=() if case == "no evaluation" else (0.5,))
    if case == "no data":
        (data / "annotations.json").unlink()
    assert "screening" not in {tab.id for tab in make_tabs([read_run(run)])}
    assert 'id="tab-screening"' not in write_report([run]).read_text()
