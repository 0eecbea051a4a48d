"""Names whose bytes are not UTF-8 are drawn and written."""

import json
import os

import numpy as np

from xray_lazy.data.image_detections import Drawn
from xray_lazy.utils.atomic_file import write_json, write_text
from xray_lazy.visualization.montage import with_title
from xray_lazy.visualization.overlay import draw_instances

NAME = os.fsdecode("M\u00fcller".encode("latin-1"))


def test_images_are_drawn_with_them():
    scan = np.zeros((80, 120, 3), np.uint8)
    assert draw_instances(scan, [Drawn(0, (10, 40, 60, 70), 0.9)], [NAME]).any()
    assert with_title(scan, f"{NAME} " * 40).any()


def test_a_json_file_gives_them_back(tmp_path):
    write_json(tmp_path / "a.json", {"file_name": NAME, "name": "\u67aa"})
    assert json.loads((tmp_path / "a.json").read_bytes()) == {"file_name": NAME, "name": "\u67aa"}


def test_a_text_file_shows_their_bytes(tmp_path):
    write_text(tmp_path / "a.csv", NAME)
    assert (tmp_path / "a.csv").read_text() == r"M\udcfcller"
