"""Weights of a run that are used with other data or settings than its own."""

import json
import shutil

import pytest

from tests.engine.conftest import CONFIG
from xray_lazy.engine.run import RunOptions, run
from xray_lazy.errors import UserError

FEW = ["train.max_iter=1", "train.eval_period=1", "~hooks.report", "~hooks.prediction_pictures", "train.device=cpu"]


def start(folder, *overrides, **options):
    run(RunOptions(CONFIG, [f"train.output_dir={folder}", *FEW, *overrides], **options))


@pytest.fixture
def own_set(tmp_path, monkeypatch, tiny_set):
    shutil.copytree(tiny_set, tmp_path / "set")
    monkeypatch.setenv("TINY_SET", str(tmp_path / "set"))
    return next((tmp_path / "set").glob("*.json"))


def change(file, how):
    content = json.loads(file.read_text())
    how(content)
    file.write_text(json.dumps(content))


def results(folder):
    return {path.parent.name: path.read_bytes() for path in folder.glob("evaluation/*/*/predictions.json")}


@pytest.mark.slow
def test_other_settings_and_other_weights_leave_a_runs_own_results_alone(tmp_path):
    folder, other = tmp_path / "run", tmp_path / "other"
    start(folder)
    start(other, "train.seed=77")
    own = results(folder)
    weights = f"train.init_checkpoint={folder / 'model_final.pth'}"
    start(folder, weights, eval_only=True)
    assert results(folder).keys() == own.keys() == {"iter_0"}
    start(folder, weights, "model.roi_heads.box_predictor.test_score_thresh=0.9", eval_only=True)
    start(folder, f"train.init_checkpoint={other / 'model_final.pth'}", eval_only=True)
    now = results(folder)
    assert len(now) == 3 and now["iter_0"] == own["iter_0"]
    start(folder, weights, "model.roi_heads.box_predictor.test_score_thresh=0.9", eval_only=True)
    assert len(results(folder)) == 3


def test_in_a_folder_without_a_run_only_the_same_evaluation_is_replaced(tmp_path):
    folder, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    start(folder)
    weights = f"train.init_checkpoint={folder / 'model_final.pth'}"
    for _ in range(2):
        start(elsewhere, weights, eval_only=True)
        assert results(elsewhere).keys() == {"iter_0"}
    start(elsewhere, weights, "model.roi_heads.box_predictor.test_score_thresh=0.9", eval_only=True)
    assert len(results(elsewhere)) == 2


def test_a_set_that_lost_images_is_told(tmp_path, own_set, capsys):
    folder = tmp_path / "run"
    start(folder)
    change(own_set, lambda content: content.update(images=content["images"][1:]))
    change(own_set, lambda content: content.update(annotations=[]))
    start(folder, f"train.init_checkpoint={folder / 'model_final.pth'}", eval_only=True)
    assert "tiny has changed since" in capsys.readouterr().out
    assert len(results(folder)) == 2


def test_a_set_in_another_order_is_not_told_by_equal_numbers(tmp_path, own_set, capsys):
    folder = tmp_path / "run"
    start(folder)
    change(own_set, lambda content: content["images"].reverse())
    start(folder, f"train.init_checkpoint={folder / 'model_final.pth'}", eval_only=True)
    assert "annotations as then, but not the same" in capsys.readouterr().out


def test_a_dry_run_tells_of_changed_data_as_the_resume_would(tmp_path, own_set, capsys):
    folder = tmp_path / "run"
    start(folder)
    change(own_set, lambda content: content["images"].reverse())
    for options in ({"dry_run": True}, {}):
        capsys.readouterr()
        start(folder, "train.max_iter=2", resume=True, overwrite=True, **options)
        assert capsys.readouterr().out.count("tiny has changed since") == 2, options


@pytest.mark.parametrize("options", [{"eval_only": True}, {"resume": True, "overwrite": True}])
def test_other_class_names_are_refused(tmp_path, own_set, options):
    folder = tmp_path / "run"
    start(folder)
    before = (folder / "config.yaml").read_bytes()

    def exchange(content):
        one, two = content["categories"]
        one["name"], two["name"] = two["name"], one["name"]

    change(own_set, exchange)
    weights = [f"train.init_checkpoint={folder / 'model_final.pth'}"] if "eval_only" in options else []
    with pytest.raises(UserError, match="are not those that"):
        start(folder, "train.max_iter=2", *weights, **options)
    assert (folder / "config.yaml").read_bytes() == before
