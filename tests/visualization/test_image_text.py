"""Names in any script on images."""

import logging

import numpy as np
import pytest
from matplotlib import font_manager

from xray_lazy.visualization import chart_text
from xray_lazy.visualization.image_text import draw_text, text_size

INK = (255, 255, 255)


def drawn(text, at=(10, 60)):
    canvas = np.zeros((100, 900, 3), np.uint8)
    draw_text(canvas, text, at, INK, 20)
    return canvas


@pytest.fixture
def no_fall_backs(monkeypatch):
    monkeypatch.setattr(chart_text, "FALL_BACKS", ())
    monkeypatch.setattr(chart_text, "_warned", False)
    chart_text.font_files.cache_clear()
    yield
    chart_text.font_files.cache_clear()


@pytest.mark.parametrize("text", ["Messer 0.93", "Мешок", "\u00dcbel"])
def test_a_text_fills_the_place_that_its_size_tells(text):
    width, height, depth = text_size(text, 20)
    rows, columns, _ = np.nonzero(drawn(text))
    assert 60 - height - 2 <= rows.min() <= 60 - height + 4 and rows.max() <= 60 + depth + 2
    assert columns.min() >= 8 and 10 + width - 6 <= columns.max() <= 10 + width + 2


def test_different_names_in_another_script_look_different(no_fall_backs):
    assert not np.array_equal(drawn("Мешок"), drawn("Замок"))  # which matplotlib's own font has


def test_letters_that_no_font_has_are_their_numbers_and_one_warning(no_fall_backs, caplog):
    with caplog.at_level(logging.WARNING):
        assert np.array_equal(drawn("\u67aa gun"), drawn("U+67AA  gun"))
        drawn("\u5200")
    assert [chart_text.PACKAGE in record.getMessage() for record in caplog.records] == [True]


def test_a_fall_back_font_draws_what_the_first_one_has_not(no_fall_backs, monkeypatch, caplog):
    assert "STIXGeneral" in font_manager.get_font_names()
    letter = "\u20dd"
    without = drawn(letter)
    chart_text.font_files.cache_clear()
    monkeypatch.setattr(chart_text, "FALL_BACKS", ("STIXGeneral",))
    assert drawn(letter).any() and not np.array_equal(drawn(letter), without)


def test_text_beyond_the_edge_of_a_image_is_cut():
    assert not drawn("Мешок", at=(10, -60)).any()
    assert drawn("Мешок", at=(880, 5)).any()
