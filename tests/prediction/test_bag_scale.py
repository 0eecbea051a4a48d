"""How large bags of other scanners are beside the training set's, by itself and by `tools/analyze.py scale`."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.data.coco_sets import write_set
from xray_lazy.config import load_config, save_config
from xray_lazy.prediction.bag_scale import bag_size, compare_scales

SHORT_EDGE, LONG_EDGE = (f"dataloader.test.mapper.augmentations.0.{key}" for key in ("short_edge_length", "max_size"))
TOOL = Path(__file__).parents[2] / "tools" / "analyze.py"
CONFIG = str(Path(__file__).parents[1] / "engine" / "tiny.py")


def scan(width: int, height: int, bag: int, shade: int = 120) -> np.ndarray:
    """A square bag in the middle of a white image, and something small beside it."""
    image = np.full((height, width, 3), 250, np.uint8)
    top, left = (height - bag) // 2, (width - bag) // 2
    image[top : top + bag, left : left + bag] = shade
    image[5 : 5 + bag // 8, 5 : 5 + bag // 8] = shade
    return image


def draw(folder: Path, bags: list[int], width: int = 480, height: int = 360) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number, bag in enumerate(bags):
        cv2.imwrite(str(folder / f"bag_{number}.png"), scan(width, height, bag))
    return folder


@pytest.fixture
def config(tmp_path, monkeypatch):
    """Of a training set of bags of 180 pixels, which tests resize from 480x360 to 64x48."""
    write_set(tmp_path / "set", count=4, size=(480, 360))
    draw(tmp_path / "set" / "images", [180, 170, 190, 180])
    monkeypatch.setenv("TINY_SET", str(tmp_path / "set"))
    return CONFIG


@pytest.mark.parametrize("width,height,bag", [(480, 360, 180), (2000, 1200, 700), (90, 70, 40)])
def test_a_bag_is_as_large_as_it_was_drawn(width, height, bag):
    assert bag_size(scan(width, height, bag)) == pytest.approx(bag, rel=0.06)


def test_an_image_without_a_bag_has_no_size():
    assert bag_size(np.full((100, 100, 3), 250, np.uint8)) is None


def test_bags_of_half_the_size_ask_for_twice_the_resolution(config, tmp_path, run_tool_here):
    scans = draw(tmp_path / "scans", [88, 90, 92])
    answer = run_tool_here(TOOL, "scale", config, scans)
    assert answer.returncode == 0, answer.stderr
    advice = re.findall(r"dataloader\.test\.mapper\.augmentations\.0\.(\w+)=(\d+)", answer.stdout)
    assert dict(advice).keys() == {"short_edge_length", "max_size"}
    assert [int(pixels) for _, pixels in advice] == pytest.approx([96, 128], rel=0.08)
    followed = load_config(config, [line for line in answer.stdout.split() if line.startswith("dataloader.test")])
    save_config(followed, tmp_path / "followed.yaml")
    larger = compare_scales(tmp_path / "followed.yaml", [str(scans)])
    assert larger.given.seen == pytest.approx(compare_scales(config, [str(scans)]).trained.seen, rel=0.08)


def test_the_same_bags_on_larger_images_are_small_to_the_network(config, tmp_path):
    scans = draw(tmp_path / "scans", [180], width=960, height=720)
    scales = compare_scales(config, [str(scans)])
    assert scales.given.stored == pytest.approx(scales.trained.stored, rel=0.08)
    assert scales.factor == pytest.approx(2, rel=0.08)


def test_alike_bags_need_nothing(config, tmp_path, run_tool_here):
    answer = run_tool_here(TOOL, "scale", config, draw(tmp_path / "scans", [175, 182, 500]))
    assert answer.returncode == 0 and "nothing is to be changed" in answer.stdout


def test_what_training_shows_is_what_counts(config, tmp_path):
    """A config that tests at another size than it trains at, be it for other scans, or by its augmentation."""
    scans = draw(tmp_path / "scans", [180])
    save_config(load_config(config, [f"{SHORT_EDGE}=24", f"{LONG_EDGE}=32"]), tmp_path / "smaller.yaml")
    assert compare_scales(tmp_path / "smaller.yaml", [str(scans)]).factor == pytest.approx(2, rel=0.08)
    crop = {"_target_": "xray_lazy.data.augmentation.whole_item_crop.RandomWholeItemCrop", "sides": [0.3, 0.5]}
    turn = {"_target_": "xray_lazy.data.augmentation.quarter_turns.RandomQuarterTurn"}
    cfg = load_config(config)
    cfg.dataloader.train.mapper.augmentations = [*cfg.dataloader.train.mapper.augmentations, turn, crop]
    save_config(cfg, tmp_path / "cropped.yaml")
    assert compare_scales(tmp_path / "cropped.yaml", [str(scans)]).are_alike


def test_draws_are_the_same_each_time_and_leave_the_random_state(config, tmp_path):
    sizes = ["dataloader.train.mapper.augmentations.0.short_edge_length=[20,30,40,60]"]
    save_config(load_config(config, sizes), tmp_path / "drawn.yaml")
    scans = [str(draw(tmp_path / "scans", [90]))]
    before = np.random.get_state()[1].tolist()
    assert compare_scales(tmp_path / "drawn.yaml", scans) == compare_scales(tmp_path / "drawn.yaml", scans)
    assert np.random.get_state()[1].tolist() == before


@pytest.mark.parametrize("width,height", [(480, 360), (2000, 500), (90, 120)])
def test_a_dark_background_is_not_taken_for_a_bag(width, height):
    assert bag_size(255 - scan(width, height, 60)) is None


def test_what_cannot_be_read_or_shows_no_bag_is_told(config, tmp_path, run_tool_here):
    scans = draw(tmp_path / "scans", [90])
    (scans / "broken.png").write_text("broken")
    answer = run_tool_here(TOOL, "scale", config, scans)
    assert answer.returncode == 0 and "skipped: 1 image" in answer.stdout
    cv2.imwrite(str(scans / "bag_0.png"), np.full((50, 50, 3), 250, np.uint8))
    answer = run_tool_here(TOOL, "scale", config, scans)
    assert answer.returncode == 2 and "show a bag" in answer.stderr
    (scans / "bag_0.png").unlink()
    answer = run_tool_here(TOOL, "scale", config, scans)
    assert answer.returncode == 2 and "broken.png" in answer.stderr and "--image-root" in answer.stderr


def test_videos_are_no_images(config, tmp_path, run_tool_here):
    (tmp_path / "belt.mp4").touch()
    answer = run_tool_here(TOOL, "scale", config, tmp_path / "belt.mp4")
    assert answer.returncode == 2 and "has no images" in answer.stderr


def test_the_training_set_has_to_be_there(run_folder, tmp_path, run_tool_here):
    scans = draw(tmp_path / "scans", [90])
    cfg = load_config(
        run_folder / "config.yaml", ["dataloader.train.dataset.names={json_file: no.json, image_root: ., name: a}"]
    )
    save_config(cfg, tmp_path / "moved.yaml")
    answer = run_tool_here(TOOL, "scale", tmp_path / "moved.yaml", scans)
    assert answer.returncode == 2 and "no.json" in answer.stderr
    cfg.dataloader.train.dataset = None
    save_config(cfg, tmp_path / "none.yaml")
    answer = run_tool_here(TOOL, "scale", tmp_path / "none.yaml", scans)
    assert answer.returncode == 2 and "dataloader.train.dataset" in answer.stderr
