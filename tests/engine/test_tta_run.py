"""Evaluation with test-time augmentation, as the command line starts it, on a tiny model."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.engine.conftest import CONFIG as WITHOUT_TEST_NODE
from xray_lazy.config import load_config
from xray_lazy.engine.experiment import evaluate
from xray_lazy.engine.run import RunOptions, run

ROOT = Path(__file__).parents[2]
CONFIG = str(Path(__file__).parent / "tiny_tta.py")
AUGMENTED = "test.tta.enabled=True"
RESULT_FILES = {"metrics.json", "per_category.csv", "predictions.json"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_set):
    folder = tmp_path_factory.mktemp("trained")
    run(RunOptions(CONFIG, [f"train.output_dir={folder}", "train.device=cpu", "train.max_iter=2"]))
    return folder / "model_final.pth"


@pytest.fixture
def overrides(output, trained):
    """Overrides that evaluate the trained weights into a folder of their own, and that folder."""
    folder, where = output
    # after two iterations the model is sure of nothing
    sensitive = "model.roi_heads.box_predictor.test_score_thresh=0.01"
    return folder, [*where, f"train.init_checkpoint={trained}", sensitive]


def read(folder, name):
    return json.loads((folder / "evaluation" / "tiny" / name).read_text())


@pytest.mark.slow
def test_the_command_line_reports_plain_and_augmented_metrics_and_keeps_both(overrides):
    folder, settings = overrides
    command = [sys.executable, "tools/lazy_train.py", "--config-file", CONFIG, "--eval-only", *settings, AUGMENTED]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    answer = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    log = (folder / "log.txt").read_text()
    table = log[log.index("plain and with test-time augmentation") :]
    assert [line.split()[0] for line in table.splitlines()[3:7]] == ["bbox", "segm", "bbox_TTA", "segm_TTA"]
    assert "4 copies of each image" in log
    files = RESULT_FILES | {"evaluated_as.txt"}
    for name in ("iter_1", "iter_1_TTA"):
        assert {p.name for p in (folder / "evaluation" / "tiny" / name).iterdir()} == files
        assert {"bbox", "segm"} <= read(folder, f"{name}/metrics.json").keys()
    plain, augmented = (read(folder, f"{name}/predictions.json") for name in ("iter_1", "iter_1_TTA"))
    assert plain and augmented and plain != augmented


def test_plain_metrics_are_those_without_augmentation(overrides):
    folder, settings = overrides
    run(RunOptions(CONFIG, settings, eval_only=True))
    before = read(folder, "iter_1/metrics.json"), read(folder, "iter_1/predictions.json")
    assert not (folder / "evaluation" / "tiny" / "iter_1_TTA").exists()
    results = evaluate(load_config(CONFIG, [*settings, AUGMENTED]), "cpu")
    tasks = ("bbox", "segm", "screening")
    assert list(results) == [task + suffix for suffix in ("", "_TTA") for task in tasks]
    assert (read(folder, "iter_1/metrics.json"), read(folder, "iter_1/predictions.json")) == before


@pytest.mark.slow
def test_two_processes_find_what_one_finds(overrides, tmp_path):
    folder, settings = overrides
    run(RunOptions(CONFIG, [*settings, AUGMENTED], eval_only=True))
    shared = tmp_path / "shared"
    run(RunOptions(CONFIG, [*settings, AUGMENTED, f"train.output_dir={shared}"], eval_only=True, num_processes=2))
    one, two = (read(where, "iter_1_TTA/predictions.json") for where in (folder, shared))
    assert len(one) == len(two) > 0
    for alone, together in zip(one, two, strict=True):
        assert alone["image_id"] == together["image_id"] and alone["category_id"] == together["category_id"]
        assert alone["score"] == pytest.approx(together["score"], rel=1e-4)
        assert alone["bbox"] == pytest.approx(together["bbox"], abs=0.01)


def test_a_config_without_a_test_node_is_evaluated_plainly(overrides):
    folder, settings = overrides
    run(RunOptions(WITHOUT_TEST_NODE, settings, eval_only=True))
    assert [p.name for p in (folder / "evaluation" / "tiny").iterdir()] == ["iter_1"]


def test_training_and_its_dry_run_say_that_augmentation_is_for_evaluation(output, caplog):
    folder, where = output
    settings = [*where, "train.max_iter=1", AUGMENTED]
    run(RunOptions(CONFIG, settings, dry_run=True))
    assert "test.tta.enabled is for --eval-only" in caplog.text
    run(RunOptions(CONFIG, settings))
    assert "test.tta.enabled is for --eval-only" in (folder / "log.txt").read_text()
    assert [p.name for p in (folder / "evaluation" / "tiny").iterdir()] == ["iter_0"]
