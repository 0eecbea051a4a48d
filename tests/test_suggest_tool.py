"""tools/suggest.py: the command that it prints is one that the check of a training accepts."""

import json
import shlex
from pathlib import Path

import pytest

from tests.data.coco_sets import write_set
from tests.engine.test_recipe import write_boxes
from xray_lazy.data.synthetic.generate import generate_set

ROOT = Path(__file__).parent.parent
SUGGEST, TRAIN = ROOT / "tools" / "suggest.py", ROOT / "tools" / "lazy_train.py"
TINY = ROOT / "tests" / "engine" / "tiny.py"


@pytest.fixture
def check_command(run_tool_here, tiny_set, tmp_path):
    """Run the tool, then its command as a dry run; gives the recipe and the resolved config's text."""

    def check(*arguments):
        answer = run_tool_here(SUGGEST, *arguments, "--json", tmp_path / "recipe.json")
        assert answer.returncode == 0, answer.stderr
        recipe = json.loads((tmp_path / "recipe.json").read_text())
        printed = answer.stdout[answer.stdout.index("python tools/lazy_train.py") :].partition("\n\n")[0]
        assert printed == recipe["command"]
        words = shlex.split(printed.replace("\\\n", ""))
        assert words[:2] == ["python", "tools/lazy_train.py"]
        dry = run_tool_here(TRAIN, *words[2:], "--dry-run", f"train.output_dir={tmp_path}/run")
        assert dry.returncode == 0, dry.stderr
        return recipe, dry.stdout

    return check


def test_for_a_configs_own_sets(check_command):
    recipe, _ = check_command("--config-file", TINY)
    assert "data" not in [advice["topic"] for advice in recipe["advice"]]


def test_for_a_generated_set_by_its_name(check_command, monkeypatch, tmp_path):
    generate_set(tmp_path, "demo", {"train": 12, "val": 4}, classes=["gun"], seed=0, workers=1)
    monkeypatch.setenv("XRAY_DATASETS", str(tmp_path))
    recipe, config = check_command("xray_demo_train", "--config-file", TINY)
    assert (
        "names: xray_demo_val" in config and recipe["overrides"][0] == "dataloader.train.dataset.names=xray_demo_train"
    )
    assert not any("no validation set" in caution for caution in recipe["cautions"])


@pytest.mark.parametrize(
    "images",
    [
        [(64, 48, [(0, 5, 5, 20, 15), (1, 9, 9, 9, 9)])] + [(64, 48, [])] * 30,
        [(64, 48, [(0, 5, 5, 20, 15), (1, 9, 9, 9, 9)])] * 9 + [(40_000, 30_000, [(0, 5, 5, 2, 15)])],
    ],
    ids=["nearly empty", "one huge image"],
)
def test_for_odd_sets(check_command, tmp_path, images):
    write_boxes(tmp_path, images)
    check_command("--config-file", TINY, tmp_path / "annotations.json", tmp_path / "images")


def test_for_a_set_without_masks_and_a_second_one_for_evaluation(check_command, tmp_path):
    words = []
    for name in ("one", "other"):
        write_set(tmp_path / name, masks=False)
        words += [tmp_path / name / "annotations.json", tmp_path / name / "images"]
    recipe, config = check_command(*words, "--config-file", TINY)
    assert "~model.roi_heads.mask_head" in recipe["overrides"] and f"json_file: {words[2]}" in config
    assert not any("no validation set" in caution for caution in recipe["cautions"])


@pytest.mark.parametrize(("masks", "config"), [(True, "mask_rcnn_r50.py"), (False, "faster_rcnn_r50.py")])
def test_masks_choose_the_config_where_none_is_named(run_tool_here, tmp_path, masks, config):
    write_set(tmp_path, masks=masks)
    answer = run_tool_here(SUGGEST, tmp_path / "annotations.json", tmp_path / "images", "--json", "-")
    recipe = json.loads(answer.stdout)
    assert Path(recipe["config_file"]).name == config
    assert any("no validation set" in caution for caution in recipe["cautions"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "neither a set nor a config is named"),
        (["xray_demo_val"], "there is no set to train on among xray_demo_val"),
        (["xray_nobody_train"], "there is no file"),
        (["--config-file", TINY, "model.no_such_key=1"], "there is no key model.no_such_key"),
    ],
)
def test_what_a_person_has_to_mend_is_told(run_tool_here, tiny_set, monkeypatch, tmp_path, words, message):
    generate_set(tmp_path, "demo", {"train": 1, "val": 1}, classes=["gun"], seed=0, workers=1)
    monkeypatch.setenv("XRAY_DATASETS", str(tmp_path))
    answer = run_tool_here(SUGGEST, *words)
    assert answer.returncode == 2 and message in answer.stderr and "fix:" in answer.stderr


def test_the_recipe_replaces_earlier_recipes_alone(run_tool_here, tiny_set, tmp_path):
    recipe, foreign = tmp_path / "recipe.json", tmp_path / "set.json"
    foreign.write_text('{"images": []}')
    line = (SUGGEST, "--config-file", TINY, "--json")
    refused = run_tool_here(*line, foreign)
    assert refused.returncode == 2 and "is not a recipe that could be replaced" in refused.stderr
    assert foreign.read_text() == '{"images": []}'
    assert [run_tool_here(*line, recipe).returncode for _ in range(2)] == [0, 0]
