"""Images in the colours of another scanner, by a file of both scanners' colours."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.data.augmentation.conftest import as_image, empty_bag
from xray_lazy.data.augmentation.scanner_colours import ScannerColours, curves
from xray_lazy.data.augmentation.scanner_statistics import measure_scanners, read_colours
from xray_lazy.errors import UserError

ROOT = Path(__file__).parents[3]
GAMMA = 1.4  # of the darker scanner


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    """A file of two scanners: the same bags, of which one shows all darker."""
    folder = tmp_path_factory.mktemp("scanners")
    for number in range(4):
        bright = empty_bag(seed=number)
        dark = 235 * (bright.clip(0, 235) / 235) ** GAMMA
        for name, image in (("bright", bright), ("dark", dark)):
            (folder / name).mkdir(exist_ok=True)
            cv2.imwrite(str(folder / name / f"{number}.png"), as_image(image))
    content = measure_scanners({name: str(folder / name) for name in ("bright", "dark")})
    (folder / "colours.json").write_text(json.dumps(content))
    return folder / "colours.json"


def test_one_scanners_image_becomes_the_others(colours):
    file = str(colours.parent / "bright" / "1.png")
    image, wanted = cv2.imread(file), cv2.imread(file.replace("bright", "dark"))
    transform = ScannerColours(str(colours), strength=(1, 1)).get_transform(image, file)
    changed = transform.apply_image(image)
    inside = np.s_[30:-30, 30:-30]
    before = np.abs(image[inside].astype(int) - wanted[inside]).mean()
    after = np.abs(changed[inside].astype(int) - wanted[inside]).mean()
    assert after < 0.2 * before
    assert transform.apply_coords(np.array([[1.0, 2.0]])).tolist() == [[1.0, 2.0]]


def test_channels_in_another_order_get_their_own_curves(colours):
    file = str(colours.parent / "dark" / "2.png")
    image = cv2.imread(file)
    bgr = ScannerColours(str(colours), strength=(1, 1)).get_transform(image, file).apply_image(image)
    rgb = ScannerColours(str(colours), strength=(1, 1), image_format="RGB").get_transform(image, file)
    assert np.array_equal(rgb.apply_image(np.ascontiguousarray(image[:, :, ::-1])), bgr[:, :, ::-1])


def test_curves_rise_so_that_materials_keep_their_order(colours):
    scanners = read_colours(str(colours))
    for strength in (0.0, 0.5, 1.0):
        table = curves(scanners["bright"], scanners["dark"], strength).astype(int)
        assert (np.diff(table, axis=0) >= 0).all()
    assert np.array_equal(curves(scanners["bright"], scanners["dark"], 0.0)[:, 0], np.arange(256))


def test_an_image_of_no_known_scanner_is_refused(colours):
    with pytest.raises(UserError, match=r"elsewhere\.png is of no scanner"):
        ScannerColours(str(colours)).get_transform(np.zeros((4, 4, 3), np.uint8), "elsewhere.png")


@pytest.mark.parametrize("content", ["", "[]", '{"kind": "scanner colours"}', '{"kind": 3, "scanners": {}}'])
def test_another_file_is_refused(tmp_path, content):
    (tmp_path / "colours.json").write_text(content)
    with pytest.raises(UserError, match=r"colours\.json|no JSON"):
        read_colours(str(tmp_path / "colours.json"))


def test_scanners_need_images_of_their_own(tmp_path, colours):
    bright = str(colours.parent / "bright")
    with pytest.raises(UserError, match="one scanner has no other"):
        measure_scanners({"bright": bright})
    with pytest.raises(UserError, match="in common"):
        measure_scanners({"bright": bright, "also": f"{bright}/1*"})
    with pytest.raises(UserError, match="has no images"):
        measure_scanners({"bright": bright, "none": str(tmp_path)})


def test_the_tool_writes_the_file_and_replaces_no_other(run_tool_here, colours, tmp_path):
    tool, scanners = ROOT / "tools" / "dataset.py", []
    for name in ("bright", "dark"):
        scanners += ["--scanner", name, colours.parent / name]
    answer = run_tool_here(tool, "colours", *scanners, "--output", tmp_path / "new.json")
    assert answer.returncode == 0, answer.stderr
    assert read_colours(str(tmp_path / "new.json")).keys() == {"bright", "dark"}
    (tmp_path / "mine.json").write_text("{}")
    answer = run_tool_here(tool, "colours", *scanners, "--output", tmp_path / "mine.json")
    assert answer.returncode == 2 and (tmp_path / "mine.json").read_text() == "{}"
    answer = run_tool_here(tool, "colours", *scanners[:3], "--output", tmp_path / "new.json")
    assert answer.returncode == 2 and "one scanner has no other" in answer.stderr


def test_a_pattern_that_the_shell_replaced_is_refused(run_tool_here, colours, tmp_path):
    images = sorted((colours.parent / "bright").iterdir())
    assert len(images) > 1
    tool, output = ROOT / "tools" / "dataset.py", tmp_path / "new.json"
    answer = run_tool_here(tool, "colours", "--scanner", "bright", *images, "--output", output)
    assert answer.returncode == 2 and "in quotes" in answer.stderr and not output.exists()
