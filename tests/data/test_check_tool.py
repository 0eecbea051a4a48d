"""`tools/dataset.py check` and `repair` as a person runs them: output, files and exit codes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from coco_examples import instance, sound_set, write_images

TOOL = Path(__file__).parents[2] / "tools" / "dataset.py"


def run(*arguments) -> subprocess.CompletedProcess:
    command = [sys.executable, str(TOOL), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture
def files(tmp_path):
    """A set with width and height 0, a gap in the class ids, an annotation without image and an empty box."""
    content = sound_set()
    for image in content["images"]:
        image.update(width=0, height=0)
    content["categories"][1]["id"] = 7
    content["annotations"][1]["category_id"] = 7
    content["annotations"] += [instance(20, 99), instance(21, 3, 7, bbox=[0, 0, 0, 0])]
    path = tmp_path / "set.json"
    path.write_text(json.dumps(content))
    return path, write_images(tmp_path / "images")


def test_check_repair_check_ends_with_a_set_without_faults(files, tmp_path):
    path, folder = files
    before = path.read_bytes()
    first = run("check", path, folder)
    assert first.returncode == 1
    for text in ("can't be trained on", "width or height is missing or 0", "instance 20", "fix:", "class 7"):
        assert text in first.stdout
    output, changes = tmp_path / "new.json", tmp_path / "changes.json"
    repaired = run("repair", path, folder, "--output", output, "--changes", changes)
    assert repaired.returncode == 0, repaired.stderr
    assert str(output) in repaired.stdout
    assert len(json.loads(changes.read_text())) == 6
    assert path.read_bytes() == before
    second = run("check", output, folder)
    assert second.returncode == 0
    assert "no faults" in second.stdout


def test_json_goes_to_a_file_or_to_stdout(files, tmp_path):
    path, folder = files
    printed = run("check", path, folder, "--json", "-")
    told = json.loads(printed.stdout)
    assert {fault["kind"] for fault in told["sets"][0]["faults"]} == {
        "size_missing",
        "class_id_gap",
        "instance_without_picture",
        "box_empty",
    }
    run("check", path, folder, "--json", tmp_path / "report.json")
    assert json.loads((tmp_path / "report.json").read_text()) == told
    assert printed.returncode == 1


def test_check_of_the_json_alone_needs_no_folder(files):
    path, _ = files
    result = run("check", path, "--no-pictures")
    assert result.returncode == 1 and "box without width or height" in result.stdout


def test_dry_run_writes_nothing(files, tmp_path):
    path, folder = files
    before = sorted(tmp_path.rglob("*"))
    result = run("repair", path, folder, "--dry-run")
    assert result.returncode == 0 and "6 changes" in result.stdout
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("command", [["check"], ["repair", "--dry-run"]])
def test_a_pipe_is_refused_where_a_set_is_read_several_times(tmp_path, command):
    os.mkfifo(tmp_path / "set")
    folder = write_images(tmp_path / "images")
    result = run(command[0], tmp_path / "set", folder, *command[1:])
    assert result.returncode == 2 and "is a pipe or a device" in result.stderr, result.stderr


def test_a_repair_that_leaves_what_training_refuses_tells_it_by_its_exit_code(files, tmp_path):
    path, folder = files
    next(folder.iterdir()).unlink()
    kept = run("repair", path, folder, "--output", tmp_path / "kept.json")
    assert kept.returncode == run("check", tmp_path / "kept.json", folder).returncode == 1
    assert "left for you" in kept.stdout and f"repaired set: {tmp_path / 'kept.json'}" in kept.stdout
    left_out = run("repair", path, folder, "--drop-unreadable", "--output", tmp_path / "left_out.json")
    assert left_out.returncode == 0, left_out.stdout


def test_repair_without_images_takes_the_scanner_size(files, tmp_path):
    path, _ = files
    result = run("repair", path, "--scanner", "smith", "--output", tmp_path / "new.json")
    assert result.returncode == 0, result.stderr
    images = json.loads((tmp_path / "new.json").read_text())["images"]
    assert {(image["width"], image["height"]) for image in images} == {(1680, 1050)}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check", "none.json", "{folder}"], "none.json"),
        (["check", "{path}"], "folder of its images"),
        (["check", "{path}", "nowhere"], "'nowhere' is no folder"),
        (["check", "{broken}", "{folder}"], "not valid JSON"),
        (["check", "xray_smith_train", "--root", "{folder}"], "xray_smith_train"),
        (["repair", "{path}", "{folder}"], "none is named"),
        (["repair", "{path}", "{folder}", "--output", "{path}"], "is the input"),
        (["repair", "{path}", "{folder}", "--output", "{broken}"], "is there already"),
        (["repair", "{path}", "--size", "big", "--dry-run"], "not an image size"),
        (["repair", "{path}", "--scanner", "acme", "--dry-run"], "acme"),
    ],
)
def test_what_the_person_got_wrong_ends_with_one_message_and_code_2(files, tmp_path, arguments, message):
    path, folder = files
    broken = tmp_path / "broken.json"
    broken.write_text('{"images": [')
    names = {"path": path, "folder": folder, "broken": broken}
    result = run(*(argument.format(**names) for argument in arguments))
    assert result.returncode == 2
    assert message in result.stderr and "fix:" in result.stderr and "Traceback" not in result.stderr
    assert result.stdout == ""
