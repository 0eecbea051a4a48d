"""`tools/visualize.py features` as a person runs it."""

import shutil
from pathlib import Path

import cv2
import pytest
import torch
from detectron2.config import instantiate

from projects.sparse_rcnn.tests.tiny_sparse_rcnn import tiny_config
from xray_lazy.config import load_config, save_config
from xray_lazy.utils.results_place import sole_writer

ROOT = Path(__file__).parents[2]
TOOL, TINY = ROOT / "tools" / "visualize.py", ROOT / "tests" / "engine" / "tiny.py"


@pytest.fixture
def features(run_tool_here):
    return lambda *arguments: run_tool_here(TOOL, "features", *arguments)


def make_run(folder, cfg):
    """An output folder as training leaves it: config and weights."""
    folder.mkdir()
    torch.manual_seed(0)
    torch.save({"model": instantiate(cfg.model).state_dict(), "iteration": 3}, folder / "model_final.pth")
    save_config(cfg, folder / "config.yaml")
    return folder


@pytest.fixture(scope="module")
def mask_rcnn(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "mask_rcnn", load_config(str(TINY)))


@pytest.fixture(scope="module")
def box_transformer(tmp_path_factory):
    cfg = load_config(str(TINY))
    cfg.model = tiny_config("box_transformer", masks=True).model
    return make_run(tmp_path_factory.mktemp("runs") / "sparse_rcnn", cfg)


def written(folder):
    return {path.stem for path in folder.iterdir()}


def test_a_mask_rcnn_shows_all_that_it_has_in_the_runs_own_folder(features, mask_rcnn, tiny_set):
    told = features(mask_rcnn, tiny_set / "images", "--count", "2", "--score-threshold", "0")
    assert told.returncode == 0, told.stderr
    folders = sorted((mask_rcnn / "visualizations" / "features").iterdir())
    assert len(folders) == 2 == len(told.stdout.splitlines())
    assert written(folders[0]) == {"detections", "proposals", "stages", "activation", "levels", "sheet"}
    for path in folders[0].iterdir():
        assert cv2.imread(str(path)).std() > 5, path


def test_a_sparse_rcnn_with_box_transformer_shows_its_attention_too(features, box_transformer, tiny_set, tmp_path):
    told = features(
        box_transformer,
        tiny_set / "images" / "bag_1.png",
        "--score-threshold",
        "0.9",
        "--output",
        tmp_path,
        "--top",
        "4",
    )
    assert told.returncode == 0, told.stderr
    assert "0 detections" in told.stdout
    assert written(tmp_path / "bag_1") == {"detections", "proposals", "stages", "attention", "levels", "sheet"}


def test_only_what_is_asked_for_is_shown_and_what_is_not_there_is_said(features, mask_rcnn, tiny_set, tmp_path):
    image = tiny_set / "images" / "bag_0.png"
    told = features(mask_rcnn, image, "--output", tmp_path, "--show", "levels", "attention")
    assert told.returncode == 0, told.stderr
    assert written(tmp_path / "bag_0") == {"detections", "levels", "sheet"}
    assert "nothing to show of attention" in told.stdout


def test_images_of_one_name_in_several_folders_have_folders_of_their_own(features, mask_rcnn, tiny_set, tmp_path):
    image = tiny_set / "images" / "bag_0.png"
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / image.name).write_bytes(image.read_bytes())
    told = features(mask_rcnn, image, tmp_path / "other", "--show", "levels", "--output", tmp_path / "shown")
    assert told.returncode == 0, told.stderr
    assert written(tmp_path / "shown") == {"bag_0", "bag_0_2"}


def test_overrides_reach_the_model(features, mask_rcnn, tiny_set, tmp_path):
    image = tiny_set / "images" / "bag_0.png"
    known = features(mask_rcnn, image, "--output", tmp_path, "--show", "levels", "model.roi_heads.num_classes=2")
    assert known.returncode == 0, known.stderr
    told = features(mask_rcnn, image, "model.roi_headz.num_classes=2")
    assert told.returncode == 2 and "model.roi_heads" in told.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.png"], "no image none.png"),
        ([], "no images are given"),
        (["{tiny_set}/images", "--show", "dreams"], "nothing called dreams"),
        (["{tiny_set}/empty"], "no image"),
    ],
)
def test_what_the_person_got_wrong_ends_with_one_message_and_code_2(features, mask_rcnn, tiny_set, arguments, message):
    told = features(mask_rcnn, *(argument.format(tiny_set=tiny_set) for argument in arguments))
    assert told.returncode == 2
    assert message in told.stderr and "fix:" in told.stderr


def test_what_can_not_be_read_is_left_out_unless_it_is_all(features, mask_rcnn, tiny_set, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    cut = tmp_path / "cut.png"
    cut.write_bytes((tiny_set / "images" / "bag_0.png").read_bytes()[:-40])
    shown = ("--show", "levels", "--output", tmp_path / "shown")
    told = features(mask_rcnn, broken, cut, tiny_set / "images" / "bag_0.png", *shown)
    assert told.returncode == 0, told.stderr
    assert f"skipped: image {broken}" in told.stderr and f"skipped: image {cut}" in told.stderr
    assert written(tmp_path / "shown") == {"bag_0"}
    told = features(mask_rcnn, broken, cut, *shown)
    assert told.returncode == 2 and "none of the 2 images could be read" in told.stderr


def test_a_file_in_the_place_of_the_results_is_told_before_any_other_work(features, tmp_path):
    (tmp_path / "file").touch()
    told = features(tmp_path / "no_run", "no.png", "--output", tmp_path / "file" / "below")
    assert told.returncode == 2 and f"{tmp_path}/file is no folder" in told.stderr


def test_a_folder_that_is_no_run_is_told_so(features, tiny_set):
    told = features(tiny_set, tiny_set / "images")
    assert told.returncode == 2 and "not the output folder of a training" in told.stderr


def test_results_in_the_folder_of_images_are_no_images_of_the_next_call(features, mask_rcnn, tiny_set, tmp_path):
    images = tmp_path / "bags"
    shutil.copytree(tiny_set / "images", images)
    (tmp_path / "link").symlink_to(images / "seen")
    told = [
        features(mask_rcnn, images, "--count", "1", "--show", "levels", "--output", images / "seen", "--seed", seed)
        for seed in range(2)
    ]
    told.append(features(mask_rcnn, images, "--show", "levels", "--output", tmp_path / "link"))
    assert [one.returncode for one in told] == [0, 0, 0]
    assert not {"levels", "sheet", "detections"} & written(images / "seen")
    told = features(mask_rcnn, images / "seen", "--output", images)
    assert told.returncode == 2 and "outside of" in told.stderr
    with sole_writer(images / "seen"):
        told = features(mask_rcnn, images, "--output", images / "seen")
    assert told.returncode == 2 and "another process is writing results into" in told.stderr


def test_a_link_to_itself_among_images_is_one_that_can_not_be_read(features, mask_rcnn, tmp_path):
    (tmp_path / "loop.png").symlink_to("loop.png")
    told = features(mask_rcnn, tmp_path, "--output", tmp_path / "seen")
    assert told.returncode == 2 and "loop.png can't be read" in told.stderr


def test_an_image_that_a_result_would_replace_stays(features, mask_rcnn, tiny_set, tmp_path):
    for name in ("bag_1.png", "bag_1/sheet.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(tiny_set / "images" / "bag_1.png", tmp_path / name)
    before = (tmp_path / "bag_1" / "sheet.png").read_bytes()
    told = features(mask_rcnn, tmp_path / "bag_1.png", tmp_path / "bag_1" / "sheet.png", "--output", tmp_path)
    assert told.returncode == 2 and "sheet.png is the input, which stays as it is" in told.stderr
    assert (tmp_path / "bag_1" / "sheet.png").read_bytes() == before
