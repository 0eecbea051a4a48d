"""`tools/visualize.py data` as a person runs it: files, messages and exit codes."""

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import cv2
import pytest

from tests.data.coco_sets import write_set
from tests.patience import PATIENCE
from xray_lazy.utils.results_place import sole_writer

TOOL = Path(__file__).parents[2] / "tools" / "visualize.py"
DEMO = TOOL.parents[1] / "configs" / "xray" / "mask_rcnn_r18_demo.py"
FLIP = "dataloader.train.mapper.augmentations.1.horizontal=False"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Eight bags: 13 and 17 are empty, guns in the even ones, knives in the odd."""
    folder = tmp_path_factory.mktemp("set")
    write_set(folder, count=8, size=(320, 192))
    return folder / "annotations.json", folder / "images"


@pytest.fixture
def run(run_tool_here):
    """The tool in this process: in one of its own, each call would wait for its imports."""
    return lambda *arguments: run_tool_here(TOOL, "data", *arguments)


def test_chosen_images_come_by_themselves_and_on_a_sheet(run, files, tmp_path):
    told = run(*files, "--class", "gun", "--count", "3", "--grey", "--output", tmp_path)
    assert told.returncode == 0, told.stderr
    assert "3 images" in told.stdout and str(tmp_path / "sheet_1.jpg") in told.stdout
    images = sorted(tmp_path.glob("pictures/*.jpg"))
    assert len(images) == 3 and all(int(path.stem[-1]) % 2 == 0 for path in images)
    drawn = cv2.imread(str(images[0]))
    red, green = drawn[..., 2].astype(int), drawn[..., 1].astype(int)
    assert (red - green > 120).sum() > 200, "the guns' magenta is missing"
    assert cv2.imread(str(tmp_path / "sheet_1.jpg")).shape[1] > 3 * 480


def test_many_images_fill_several_sheets(run, files, tmp_path):
    assert run(*files, "--columns", "1", "--output", tmp_path).returncode == 0  # five rows on each
    assert len(list(tmp_path.glob("sheet_*.jpg"))) == 2
    assert len(list(tmp_path.glob("pictures/*.jpg"))) == 8


@pytest.mark.parametrize(
    ("image", "json_file", "flags"),
    [
        ("sheet_1.jpg", "annotations.json", []),
        ("sheet_1.jpg", "annotations.json", ["--faulty"]),
        ("statistics.png", "annotations.json", ["--statistics"]),
        ("bag_0.png", "statistics.json", ["--statistics"]),
        ("augmented.jpg", "annotations.json", ["--augmented", "--config-file", DEMO]),
    ],
)
def test_a_file_of_the_set_that_a_result_would_replace_stays(run, tmp_path, image, json_file, flags):
    write_set(tmp_path, count=1)
    images = (tmp_path / "images").rename(tmp_path / "bags")
    (images / "bag_0.png").rename(images / image)
    text = (tmp_path / "annotations.json").read_text().replace("bag_0.png", image)
    (images / json_file).write_text(text)
    (tmp_path / "link").symlink_to(images)
    before = {path.name: path.read_bytes() for path in images.iterdir()}
    told = run(images / json_file, images, *flags, "--output", tmp_path / "link")
    assert told.returncode == 2 and "is the input, which stays as it is" in told.stderr
    assert {path.name: path.read_bytes() for path in images.iterdir()} == before


@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("sheet_1.jpg", []),
        ("pictures/000_bag_0.jpg", []),
        ("statistics.json", ["--statistics"]),
        ("augmented.jpg", ["--augmented", "--config-file", DEMO]),
    ],
)
def test_files_of_the_same_name_that_are_no_results_stay(run, tmp_path, name, flags):
    write_set(tmp_path, count=1)
    own = tmp_path / "out" / name
    own.parent.mkdir(parents=True)
    own.write_text("mine")
    told = run(tmp_path / "annotations.json", tmp_path / "images", *flags, "--output", tmp_path / "out")
    assert told.returncode == 2 and f"{name} is there already, and is not " in told.stderr
    assert own.read_text() == "mine"


def test_a_folder_that_another_process_writes_into_is_left_to_it(run, files, tmp_path):
    with sole_writer(tmp_path / "shown"):
        told = run(*files, "--statistics", "--output", tmp_path / "shown")
    assert told.returncode == 2 and "another process is writing results into" in told.stderr


def test_faulty_images_are_shown_with_their_faults_also_where_the_set_cannot_be_loaded(run, tmp_path):
    content = write_set(tmp_path, count=6, size=(320, 192))
    content["annotations"][0]["bbox"] = [5, 6, 0, 0]
    content["annotations"][1]["category_id"] = 99
    content["images"][2]["width"] = content["images"][2]["height"] = 0
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    (tmp_path / "images" / "bag_2.png").unlink()
    arguments = (tmp_path / "annotations.json", tmp_path / "images", "--output", tmp_path / "shown")
    assert "can't be read" in run(*arguments).stderr
    told = run(*arguments, "--faulty")
    assert told.returncode == 0, told.stderr
    assert "3 images" in told.stdout
    assert {path.name for path in (tmp_path / "shown" / "pictures").iterdir()} == {"000_bag_0.jpg", "001_bag_1.jpg"}
    assert "1 image, each by itself" in run(*arguments, "--fault-kind", "undeclared_class").stdout
    assert "1 image, each by itself" in run(*arguments, "--faulty", "--class", "gun").stdout
    unknown = run(*arguments, "--fault-kind", "nonsense")
    assert unknown.returncode == 2 and "box_empty" in unknown.stderr


def test_entries_that_are_none_and_masks_without_a_size_are_no_obstacle_to_faulty_images(run, tmp_path):
    content = write_set(tmp_path, count=2, size=(320, 192))
    content["annotations"][0] |= {"bbox": [5, 6, 0, 0], "segmentation": {"size": [10**7, 10**7], "counts": "Pm0P`1"}}
    for name in ("images", "annotations", "categories"):
        content[name].append(None)
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    told = run(tmp_path / "annotations.json", tmp_path / "images", "--faulty", "--output", tmp_path / "shown")
    assert "1 image, each by itself" in told.stdout, told.stderr


def test_augmented_images_are_those_of_the_config(run, files, tmp_path):
    arguments = (*files, "--augmented", "--config-file", DEMO, "--ids", "10", "--draws", "2", "--output", tmp_path)
    told = run(*arguments, "dataloader.train.mapper.augmentations.0.short_edge_length=[96]")
    assert told.returncode == 0, told.stderr
    assert "1 image, 2 draws of each" in told.stdout
    sheet = cv2.imread(str(tmp_path / "augmented.jpg"))
    assert sheet.shape[1] > 800 > sheet.shape[0]
    assert run(*files, "--augmented").returncode == 2


def test_each_part_of_the_augmentation_is_shown_by_itself(run, files, tmp_path):
    mixing = "dataloader.train.mapper.mixing=[{_target_: xray_lazy.data.augmentation.mosaic.Mosaic, probability: 1.0}]"
    arguments = (*files, "--augmented", "--each", "--config-file", DEMO, "--ids", "10", "--draws", "1")
    told = run(*arguments, "--output", tmp_path, mixing)
    assert told.returncode == 0, told.stderr
    parts = ["part_1_Mosaic", "part_2_ResizeShortestEdge", "part_3_RandomFlip"]
    assert sorted(path.stem for path in tmp_path.glob("*.jpg")) == ["augmented", *parts]
    # that of the mosaic is not resized, that of the flip not put together
    together, mosaic, resized, flipped = (cv2.imread(str(tmp_path / f"{name}.jpg")) for name in ["augmented", *parts])
    assert mosaic.shape == flipped.shape and not (mosaic == flipped).all()
    assert not (together == resized).all()


def test_statistics_of_all_sets_under_the_root(run, tmp_path, monkeypatch):
    for split, folder in (("train", "train"), ("val", "valid")):
        content = write_set(tmp_path / "images" / "a" / folder, count=4)
        images = tmp_path / "images" / "a" / folder
        for path in (images / "images").iterdir():
            path.rename(images / path.name)
        (tmp_path / "annotations" / "a").mkdir(parents=True, exist_ok=True)
        (tmp_path / "annotations" / "a" / f"{split}.json").write_text(json.dumps(content))
    monkeypatch.setenv("XRAY_DATASETS", str(tmp_path))
    told = run("--statistics", "--output", tmp_path / "shown")
    assert told.returncode == 0, told.stderr
    sets = json.loads((tmp_path / "shown" / "statistics.json").read_text())
    assert [one["name"] for one in sets] == ["xray_a_train", "xray_a_val"]
    assert cv2.imread(str(tmp_path / "shown" / "statistics.png")).shape[1] == 1760


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--class", "saw"], "no class saw"),
        (["--class", "gunn"], "did you mean gun? there are gun, knife"),
        (["--size", "huge"], "no range of sizes"),
        (["--ids", "999"], "no image is as asked for"),
        (["--split", "val"], "none of the data sets"),
        (["--statistics", "none.json"], "none.json"),
        (["--statistics", "--class", "gun", "--count", "3"], "--class, --count have no effect with --statistics"),
        (["--augmented", "--config-file", DEMO, "--grey"], "--grey has no effect with --augmented"),
        (["--augmented", "--config-file", DEMO, FLIP], "dataloader.train.mapper can't be built: ValueError: At least"),
        (["--browse", "--faulty"], "--faulty has no effect with --browse"),
        (["--draws", "2"], "--draws has no effect without --augmented"),
        (["train.seed=1"], "KEY=VALUE has no effect without --augmented"),
    ],
)
def test_what_the_person_got_wrong_ends_with_one_message_and_code_2(run, files, arguments, message):
    told = run(*files, *arguments)
    assert told.returncode == 2
    assert message in told.stderr and "fix:" in told.stderr and "Traceback" not in told.stderr


def test_the_browser_serves_the_chosen_images(files):
    pytest.importorskip("fastapi")
    pytest.importorskip("uvicorn")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))  # of two of these tests at the same time each has its own
        port = str(probe.getsockname()[1])
    command = [sys.executable, str(TOOL), "data", *map(str, files), "--browse", "--class", "knife", "--port", port]
    environment = os.environ | {"BROWSER": "true", "OMP_NUM_THREADS": "1"}
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        address = server.stdout.readline().split()[0]
        assert address.startswith("http://127.0.0.1:")
        wait_for_answers(address, server)
        assert "2 of 2 images" in page(f"{address}/gallery")
        assert "bag_1.png" in page(f"{address}/detail/1") and "bag_5.png" in page(f"{address}/detail/2")
        image = urllib.request.urlopen(f"{address}/images/bag_1.png", timeout=PATIENCE).read()
        assert image == (files[1] / "bag_1.png").read_bytes()
    finally:
        server.send_signal(signal.SIGINT)
        assert server.wait(PATIENCE) == 0


def wait_for_answers(address: str, server: subprocess.Popen) -> None:
    while server.poll() is None:
        try:
            urllib.request.urlopen(address, timeout=PATIENCE).close()
        except urllib.error.URLError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError("the server has ended")


def page(address: str) -> str:
    return urllib.request.urlopen(address, timeout=PATIENCE).read().decode()


def test_a_missing_package_of_the_browser_is_named(run, files, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "uvicorn" else find(name, *rest)
    )
    told = run(*files, "--browse")
    assert told.returncode == 2 and "uvicorn" in told.stderr and "hotcoco[browse]" in told.stderr


def test_help_names_what_can_be_shown(run):
    told = run("--help")
    assert told.returncode == 0 and "--browse" in told.stdout
