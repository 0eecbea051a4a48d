"""tools/export.py and the example that it ships, as a person uses them."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.layers.mask_ops import paste_masks_in_image

from tests.engine.quick_processes import run_group, run_tool
from tests.export.conftest import CONFIG
from xray_lazy.engine.run import RunOptions
from xray_lazy.engine.run import run as train
from xray_lazy.errors import UserError
from xray_lazy.export import run_onnx
from xray_lazy.export.export_model import ExportOptions, check_place, export_model
from xray_lazy.export.facts import facts_path
from xray_lazy.export.runtime import load_exported
from xray_lazy.prediction.predictor import Predictor
from xray_lazy.utils.results_place import sole_maker

ROOT = Path(__file__).parent.parent.parent
PREDICTOR = "model.roi_heads.box_predictor"


def run(environment, tool, *arguments):
    command = [sys.executable, str(ROOT / "tools" / tool), *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of three iterations with averaged weights."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    overrides = [
        *(f"train.output_dir={folder}", "train.device=cpu"),
        *("train.max_iter=3", "train.checkpointer.period=2", "hooks.ema.decay=0.5"),
        *("~hooks.evaluation", "~hooks.best_checkpoint", "~hooks.prediction_pictures", "~hooks.evaluation_media"),
        "model.roi_heads.box_predictor.test_score_thresh=0.0",
    ]
    run_group(train, RunOptions(CONFIG, overrides), log=folder.with_suffix(".log"))
    return folder


@pytest.fixture(scope="module")
def exported(environment, trained):
    answer = run_tool(ROOT / "tools" / "export.py", trained, environment=environment)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout, trained / "exported" / "model_final.onnx"


def test_an_output_folder_alone_is_enough(exported):
    output, file = exported
    assert f"wrote {file}" in output and "it agrees" in output
    rows = [line.split() for line in output.splitlines() if line.startswith(("bag_", "white", "a batch"))]
    assert len(rows) == 6 and all(float(row[-3]) < 0.1 and float(row[-2]) < 1e-3 for row in rows)
    facts = load_exported(file).facts
    assert facts.class_names == ("gun", "knife") and facts.iteration == 2


def test_averaged_weights_are_exported_from_their_file_and_from_a_checkpoint(trained, exported, tmp_path):
    image = np.full((3, 48, 64), 128, np.float32)
    image[:, 10:30, 20:40] = 30
    scores = [load_exported(exported[1])(image)["scores"]]
    for weights in (None, str(trained / "model_final.pth")):
        options = ExportOptions(str(trained), weights=weights, ema=True, output=str(tmp_path / "ema.onnx"), count=1)
        scores.append(load_exported(export_model(options, lambda line: None))(image)["scores"])
    assert np.array_equal(scores[1], scores[2])
    assert scores[0].shape != scores[1].shape or np.abs(scores[0] - scores[1]).max() > 1e-6


def test_a_file_that_another_process_exports_to_is_left_to_it(trained, tmp_path):
    output = tmp_path / "model.onnx"
    with sole_maker(output), pytest.raises(UserError, match=f"another process is writing results into {output}"):
        export_model(ExportOptions(str(trained), output=str(output), count=1), lambda line: None)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_kill_between_two_renames_leaves_no_pair_that_runs(trained, exported, tmp_path, monkeypatch):
    """Simulated by an interrupt at the second one."""
    output, renamed = tmp_path / "model.onnx", []
    shutil.copy(exported[1], output)
    shutil.copy(facts_path(exported[1]), facts_path(output))
    load_exported(output)

    def once(source, target, rename=os.replace):
        if Path(source).parent.name.endswith(".unfinished") and not str(source).endswith(".tmp"):
            renamed.append(target)
            if len(renamed) == 2:
                raise KeyboardInterrupt
        rename(source, target)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(os, "replace", once)
        options = ExportOptions(str(trained), output=str(output), count=1)
        export_model(replace(options, overrides=[f"{PREDICTOR}.test_topk_per_image=1"]), lambda line: None)
    assert json.loads(facts_path(output).read_text())["overrides"] == [f"{PREDICTOR}.test_topk_per_image=1"]
    with pytest.raises(UserError, match=r"is not what model\.onnx\.json describes: it is of another export"):
        load_exported(output)
    check_place(output, "onnx")  # the same command goes on


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"has_masks": False}, "has masks, which the JSON file beside it tells otherwise"),
        ({"batched": False}, r"takes images \?x3x\?x\?; sizes \?x2, which"),
        ({"dynamic": False}, "takes images"),
        ({"padding": [1.0]}, "takes images"),
        ({"class_names": ["gun"]}, "has a class 1, counted from 0, of 1"),
        ({"reader": {"chanels": 3}}, "chanels"),
        ({"reader": {"window": "x"}}, "its reader"),
    ],
)
def test_facts_that_do_not_fit_to_the_model_are_told_of(exported, tmp_path, changes, words):
    file = tmp_path / "model.onnx"
    shutil.copy(exported[1], file)
    facts = json.loads(facts_path(exported[1]).read_text())
    facts_path(file).write_text(json.dumps(facts | changes))
    with pytest.raises(UserError, match=words):
        Predictor.of(file, device="cpu")(np.full((48, 64, 3), 128, np.uint8))


@pytest.mark.slow
def test_the_example_needs_neither_detectron2_nor_this_project(exported, environment, tmp_path):
    folder, bag = exported[1].parent, Path(environment["TINY_SET"]) / "images" / "bag_0.png"
    forbid = (
        "import sys, runpy; "
        "sys.modules.update(dict.fromkeys(('torch', 'torchvision', 'detectron2', 'xray_lazy', 'sparse_rcnn'))); "
        "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    command = [sys.executable, "-c", forbid, folder / "run_onnx.py", exported[1], bag, "--threshold", "0.1"]
    without_path = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    answer = subprocess.run(
        [*map(str, command), "--output", str(tmp_path)], env=without_path, cwd=tmp_path, capture_output=True, text=True
    )
    assert answer.returncode == 0, answer.stderr
    found = [json.loads(line) for line in answer.stdout.splitlines()]
    assert found and all(one["class"] in ("gun", "knife") and one["score"] >= 0.1 for one in found)
    assert (cv2.imread(str(tmp_path / "bag_0.png")) != cv2.imread(str(bag))).any()


def test_the_example_pastes_masks_as_detectron2_does():
    random = np.random.default_rng(0)
    coarse = random.uniform(size=(20, 5, 5)).astype(np.float32)
    masks = np.stack([cv2.resize(mask, (28, 28), interpolation=cv2.INTER_LINEAR) for mask in coarse])
    corners = random.uniform(0, 60, (20, 2))
    corners = np.concatenate([corners, corners + random.uniform(0.3, 60, (20, 2))], 1)
    boxes = corners.clip(0, (90, 70, 90, 70)).astype(np.float32)
    wanted = paste_masks_in_image(torch.from_numpy(masks), torch.from_numpy(boxes), (70, 90), 0.5).numpy()
    found = np.stack([run_onnx.paste(mask, box, 70, 90) for mask, box in zip(masks, boxes, strict=True)])
    assert wanted.any()
    # OpenCV counts in 32nds of a pixel, so that a probability of about 0.5 may fall to the other side
    assert (wanted != found).mean() < 1e-3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "no output folder is given"),
        (["train.seed=3"], "no output folder is given"),
        (["no/such/run"], "there is no no/such/run"),
        ([ROOT / "tools"], "has no config.yaml"),
        (["RUN", "--size", "800"], "is not an image size"),
        (["RUN", "--format", "tflite"], "invalid choice"),
    ],
)
def test_what_is_for_the_person_to_fix_is_one_message(run_tool_here, arguments, words):
    answer = run_tool_here(ROOT / "tools" / "export.py", *arguments)
    assert answer.returncode == 2 and words in answer.stderr and "Traceback" not in answer.stderr


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"weights": "gone.pth"}, "gone.pth"),
        ({"images": ["gone.jpg"]}, "gone.jpg"),
        ({"overrides": ["model.roi_heads.num_clases=3"]}, "num_clases"),
        ({"overrides": ["dataloader.test.mapper.augmentations=[]"]}, "no ResizeShortestEdge"),
        ({"ema": True, "weights": "RANDOM"}, "has no averaged weights"),
    ],
)
def test_what_is_wrong_with_a_run_is_one_message(trained, weights, changes, words):
    changes = {name: str(weights) if value == "RANDOM" else value for name, value in changes.items()}
    with pytest.raises(UserError, match=words):
        export_model(ExportOptions(str(trained), **changes), lambda line: None)


def test_a_test_set_with_another_order_of_classes_measures_nothing(trained, tiny_set, tmp_path):
    content = json.loads((tiny_set / "annotations.json").read_bytes())
    content["categories"] = [one | {"id": 9 - one["id"]} for one in content["categories"]]
    content["annotations"] = [one | {"category_id": 9 - one["category_id"]} for one in content["annotations"]]
    (tmp_path / "turned.json").write_text(json.dumps(content))
    names = f"{{json_file: {tmp_path / 'turned.json'}, image_root: {tiny_set / 'images'}}}"
    options = ExportOptions(
        str(trained), output=str(tmp_path / "model.onnx"), overrides=[f"++dataloader.test.dataset.names={names}"]
    )
    lines: list[str] = []
    with pytest.raises(UserError, match=r"the classes of turned are not those that .* was trained with"):
        export_model(options, lines.append)
    assert not lines  # before it is exported, which takes minutes
    assert [path.name for path in tmp_path.iterdir()] == ["turned.json"]


def test_missing_packages_are_named_with_their_extra(environment, trained, tmp_path):
    # a Python that does not find them, as one where they are not installed
    (tmp_path / "sitecustomize.py").write_text(
        """
from importlib.machinery import PathFinder

find = PathFinder.find_spec


def find_others(name, *rest):
    return None if name.partition(".")[0] in ("onnx", "onnxruntime") else find(name, *rest)


PathFinder.find_spec = find_others
"""
    )
    without = environment | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{environment['PYTHONPATH']}"}
    answer = run(without, "export.py", trained)
    assert answer.returncode == 2
    assert "not installed: onnx, onnxruntime" in answer.stderr and "pip install 'xray-lazy[onnx]'" in answer.stderr


def test_help_has_examples(run_tool_here):
    answer = run_tool_here(ROOT / "tools" / "export.py", "--help")
    assert answer.returncode == 0 and "--format" in answer.stdout and "examples:" in answer.stdout


@pytest.mark.parametrize("name", ["model_final.pth", "config.yaml", "notes"])
def test_an_export_replaces_nothing_but_an_earlier_export(trained, tmp_path, name):
    output = tmp_path / name
    if name == "notes":
        Path(f"{output}.json").write_text('{"mine": 1}')  # where the facts of a model would go
    else:
        output.write_bytes((trained / name).read_bytes())
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UserError, match="is there already"):
        export_model(ExportOptions(str(trained), output=str(output)), print)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
