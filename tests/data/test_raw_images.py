"""What check tells of raw scans: bits, channels, and overrides with which a config reads them."""

import cv2
import numpy as np
import pytest
from coco_examples import sound_set
from omegaconf import OmegaConf

from xray_lazy.data.check import check_sets
from xray_lazy.data.check.coco_set import CocoSet
from xray_lazy.data.check.image_facts import image_facts
from xray_lazy.data.image_files import image_file
from xray_lazy.data.image_reader import ImageReader

WIDTH, HEIGHT = 64, 48  # of the images of coco_examples


def bag(seed: int, white: int, channels: int) -> np.ndarray:
    """Air around things that let a quarter to a half of the beam through."""
    random = np.random.default_rng(seed)
    image = np.full((HEIGHT, WIDTH, channels), white, np.uint16)
    for x, y in random.integers(0, 36, (4, 2)):
        image[y : y + 12, x : x + 24] = random.integers(white // 4, white // 2)
    return image


def raw_set(folder, suffix, channels=1, white=4095):
    content = sound_set()
    for image in content["images"]:
        image["file_name"] = f"{image['id']}{suffix}"
        scan = bag(image["id"], white, channels)
        path = folder / image["file_name"]
        np.save(path, scan) if suffix == ".npy" else cv2.imwrite(str(path), scan)
    return CocoSet("set", content, folder)


@pytest.mark.parametrize(("suffix", "told"), [(".png", "picture_dark"), (".npy", "bits_unused")])
def test_bits_channels_and_unused_bits_are_told(tmp_path, suffix, told):
    (report,) = check_sets([raw_set(tmp_path, suffix)]).sets
    assert report.raw.summary() == "16 bits, of which 12 are used, 1 channel"
    assert {finding.kind for finding in report.findings} == {told}


def test_scans_that_use_all_bits_have_no_finding(tmp_path):
    (report,) = check_sets([raw_set(tmp_path, ".npy", 5, 60000)]).sets
    assert report.raw.summary() == "16 bits, 5 channels" and not report.findings


def test_proposed_overrides_make_a_reader_with_these_statistics(tmp_path):
    one = raw_set(tmp_path, "_low.png", white=60000)
    for path in list(tmp_path.glob("*_low.png")):
        cv2.imwrite(str(path).replace("low", "high"), bag(1, 50000, 1))
    raw = check_sets([one]).sets[0].raw
    assert raw.summary() == "16 bits, 1 channel, beside each low a high"
    cfg = OmegaConf.create({"dataloader": {"reader": {}}, "model": {}})
    for override in raw.overrides:
        key, value = override.split("=", 1)
        OmegaConf.update(cfg, key, OmegaConf.create(f"v: {value.strip(chr(39))}").v)
    reader = ImageReader(**cfg.dataloader.reader)
    assert reader.window == [(0, 60000), (0, 50000)]
    seen = np.stack([reader.read(path) for path in sorted(tmp_path.glob("*_low.png"))]).reshape(-1, 2)
    assert list(cfg.model.pixel_mean) == pytest.approx(seen.mean(0), abs=2)
    assert list(cfg.model.pixel_std) == pytest.approx(seen.std(0), abs=2)


def test_other_channels_than_those_of_the_rest_get_no_overrides(tmp_path):
    one = raw_set(tmp_path, ".npy", 2, 60000)
    np.save(tmp_path / "2.npy", bag(2, 60000, 3))
    raw = check_sets([one]).sets[0].raw
    assert raw.channels == (2, 3) and not raw.overrides


def test_a_raw_file_is_decoded_once(tmp_path, monkeypatch):
    raw_set(tmp_path, ".png")
    read, decode = [], image_file._decoded
    monkeypatch.setattr(image_file, "_decoded", lambda *given: read.append(given) or decode(*given))
    assert image_facts(tmp_path / "1.png").raw and len(read) == 1
