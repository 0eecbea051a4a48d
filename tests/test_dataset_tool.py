"""From a raw export with faults to trained weights, by the commands of the README."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.engine.quick_processes import run_tool

ROOT = Path(__file__).parent.parent


def tool(name, *arguments, code=0, **options):
    line = [sys.executable, str(ROOT / "tools" / f"{name}.py"), *map(str, arguments)]
    answer = subprocess.run(line, capture_output=True, text=True, **options)
    assert answer.returncode == code, answer.stdout + answer.stderr
    return answer.stdout


def test_an_export_with_faults_is_checked_repaired_split_and_trained_on(tmp_path, monkeypatch):
    tool("dataset", "demo", "--output", tmp_path, "--export", 24, "--faults", "--classes", 5, "--workers", 2)
    export, images = tmp_path / "demo" / "annotations.json", tmp_path / "demo" / "images"
    before = export.read_bytes()
    report = json.loads(tool("dataset", "check", export, images, "--json", "-", code=1))
    assert report
    repaired = tmp_path / "repaired.json"
    tool("dataset", "repair", export, images, "--output", repaired, "--drop-unreadable")
    assert export.read_bytes() == before
    tool("dataset", "check", repaired, images)
    root = tmp_path / "xray"
    tool("dataset", "split", repaired, images, "--scanner", "demo", "--output", root)
    assert {p.name for p in (root / "images" / "demo").iterdir()} == {"train", "valid", "test"}
    small = ("train.max_iter=2", "dataloader.train.total_batch_size=2", "dataloader.train.num_workers=0")
    folder = tmp_path / "run"
    config = ROOT / "configs" / "xray" / "mask_rcnn_r18_demo.py"
    overrides = (*small, f"dataloader.root={root}", f"train.output_dir={folder}", "train.device=cpu")
    arguments = ("--config-file", config, *overrides, "writers.wandb.mode=disabled")
    answer = run_tool(ROOT / "tools" / "lazy_train.py", *arguments)
    assert answer.returncode == 0, answer.stderr
    assert (folder / "model_final.pth").is_file()
    metrics = json.loads((folder / "evaluation" / "xray_demo_val" / "iter_1" / "metrics.json").read_text())
    assert {"bbox", "segm"} <= metrics.keys()


def test_a_number_of_images_is_not_negative(tmp_path):
    line = [sys.executable, str(ROOT / "tools" / "dataset.py"), "demo", "--train", "-2", "--output", str(tmp_path)]
    answer = subprocess.run(line, capture_output=True, text=True)
    assert answer.returncode == 2 and "--train: -2 is less than 0" in answer.stderr
    assert not list(tmp_path.iterdir())


def test_every_command_answers_a_missing_file_with_one_message(tmp_path):
    missing, nothing = tmp_path / "missing.json", tmp_path / "nothing"
    for arguments in (
        ("check", missing, nothing),
        ("repair", missing, nothing, "--output", tmp_path / "new.json"),
        ("split", missing, nothing, "--scanner", "smith", "--output", tmp_path / "root"),
        ("convert", "voc", nothing, "--output", tmp_path / "new.json"),
    ):
        line = [sys.executable, str(ROOT / "tools" / "dataset.py"), *map(str, arguments)]
        answer = subprocess.run(line, capture_output=True, text=True)
        assert answer.returncode == 2 and answer.stderr.startswith("error: "), answer.stderr
        assert "Traceback" not in answer.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("demo", "--export", "2", "--train", "1"), "--train has no effect with --export"),
        (("convert", "yolo", "a", "--match-by", "name"), "--match-by has no effect on yolo labels"),
        (("convert", "labelme", "a", "--zero-based"), "--zero-based has no effect on labelme labels"),
    ],
)
def test_an_option_without_effect_is_refused(run_tool_here, tmp_path, arguments, message):
    answer = run_tool_here(ROOT / "tools" / "dataset.py", *arguments, "--output", tmp_path / "new.json")
    assert answer.returncode == 2 and message in answer.stderr and not list(tmp_path.iterdir())
