"""docs/extending.md: its examples are short, run as they stand from a folder outside the repository, and load again."""

import json
import os
import pydoc
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from detectron2.config import instantiate

from tests.data.coco_sets import write_set
from xray_lazy.config import check_config, load_config
from xray_lazy.errors import UserError
from xray_lazy.modeling.yacs_parts import yacs_config

ROOT = Path(__file__).parent.parent
PARTS = ("my_backbone.py", "my_mask_head.py", "my_hook.py", "my_evaluator.py")
EXAMPLES = dict(re.findall(r"```python\n# (\w+\.py)\n(.*?)```", (ROOT / "docs/extending.md").read_text(), re.DOTALL))


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder with the files of the documentation."""
    folder = tmp_path_factory.mktemp("my_project")
    for name, text in EXAMPLES.items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def importable(project, monkeypatch):
    monkeypatch.syspath_prepend(project)
    yield project
    for name in EXAMPLES:
        sys.modules.pop(name.removesuffix(".py"), None)


def small_run(tmp_path):
    """Overrides that make the experiment of the documentation run on four images."""
    write_set(tmp_path / "set")
    names = f"{{json_file: {tmp_path}/set/annotations.json, image_root: {tmp_path}/set/images, name: small}}"
    sets = [
        f"++dataloader.{loader}.{key}"
        for loader in ("train", "test")
        for key in (f"dataset.names={names}", "num_workers=0")
    ]
    short = [
        "train.max_iter=2",
        "train.log_period=1",
        "dataloader.train.total_batch_size=2",
        "writers.wandb.mode=disabled",
    ]
    return [*sets, *short, "model.roi_heads.num_classes=2", f"train.output_dir={tmp_path / 'run'}"]


@pytest.mark.parametrize("name", PARTS)
def test_an_example_has_fewer_than_20_lines(name):
    assert 5 < len([line for line in EXAMPLES[name].splitlines() if line.strip()]) < 20


@pytest.mark.slow
def test_the_examples_train_in_two_processes_from_another_folder_and_load_again(project, tmp_path, importable):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    arguments = ["--config-file", "my_experiment.py", "--num-processes", "2", *small_run(tmp_path), "train.device=cpu"]
    answer = subprocess.run(
        [sys.executable, ROOT / "tools" / "lazy_train.py", *arguments],
        cwd=project,
        env={**environment, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 0, answer.stderr
    run = tmp_path / "run"
    last = json.loads((run / "metrics.json").read_text().splitlines()[-1])
    assert {"detections/per_picture", "bbox/AP", "hours_left", "loss_dice", "loss_box_reg"} <= last.keys()
    assert 11 < last["hours_left"] <= 11.5 and 0 < last["loss_dice"] <= 1
    assert (run / "evaluation" / "small" / "iter_1" / "metrics.json").is_file()
    cfg = load_config(run / "config.yaml")
    assert check_config(cfg) == []
    model = instantiate(cfg.model)
    weights = torch.load(run / "model_final.pth", weights_only=True)["model"]
    model.load_state_dict(weights)
    assert type(model.backbone.bottom_up).__name__ == "PlainBackbone"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("+hooks.mine={_target_: my_hooks.TimeLimit, hours: 1}", "my_hook"),
        ("+hooks.mine={_target_: my_hook.TimeLimits, hours: 1}", "my_hook.TimeLimit"),
        ("+hooks.mine={_target_: my_hook.TimeLimit, hour: 1}", "hours"),
    ],
)
def test_a_mistake_in_the_path_or_the_arguments_of_ones_own_part_is_reported_with_a_near_name(
    importable, override, words
):
    import my_hook  # noqa: F401

    faults = check_config(load_config(ROOT / "configs/xray/mask_rcnn_r18_demo.py", [override]))
    assert any(words in str(fault) for fault in faults)


def test_a_part_that_is_registered_for_yacs_configs_is_built_by_detectron2s_builder(importable, tmp_path):
    (tmp_path / "experiment.py").write_text("from my_registered_part import bottom_up\n")
    cfg = load_config(tmp_path / "experiment.py")
    assert check_config(cfg) == []
    backbone = instantiate(cfg.bottom_up)
    assert {name: shape.stride for name, shape in backbone.output_shape().items()} == {"res4": 16, "res5": 32}
    assert backbone(torch.rand(1, 3, 64, 96))["res5"].shape == (1, 64, 2, 3)


def test_a_configurable_class_takes_its_explicit_arguments_by_its_dotted_path(tmp_path):
    (tmp_path / "experiment.py").write_text(
        "anchors = {'_target_': 'detectron2.modeling.anchor_generator.DefaultAnchorGenerator',"
        " 'sizes': [[32]], 'aspect_ratios': [[1.0]], 'strides': [16]}\n"
    )
    cfg = load_config(tmp_path / "experiment.py")
    assert check_config(cfg) == [] and instantiate(cfg.anchors).num_anchors == [1]


def test_a_yacs_key_that_does_not_exist_is_an_error():
    with pytest.raises(UserError, match="BACKBON"):
        yacs_config(["MODEL.BACKBON.NAME", "x"])


def test_what_is_called_public_is_there():
    table = (ROOT / "docs/extending.md").read_text().partition("## What is public")[2]
    for row in re.findall(r"^\| (`xray_lazy.*) \| (.+) \|$", table, re.MULTILINE):
        modules, names = (re.findall(r"`([\w.]+)`", cell) for cell in row)
        packages = [modules[0].rpartition(".")[0] + name if name.startswith(".") else name for name in modules]
        for name in set(names) - {"__all__"}:
            assert any(is_there(f"{package}.{name}") for package in packages), name


def is_there(path: str) -> bool:
    try:
        return pydoc.locate(path) is not None
    except pydoc.ErrorDuringImport:
        return False
