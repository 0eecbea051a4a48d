"""Charts draw names in any script."""

import logging
import os

import numpy as np
import pytest
from matplotlib import font_manager

from xray_lazy.visualization import chart_text
from xray_lazy.visualization.confusion_chart import draw_confusion_matrix

COUNTS = np.eye(2, dtype=int)


@pytest.fixture
def first_warning(monkeypatch):
    monkeypatch.setattr(chart_text, "_warned", False)


def test_letters_that_no_font_has_are_one_warning_that_names_a_package(first_warning, monkeypatch, caplog, recwarn):
    monkeypatch.setattr(chart_text, "FALL_BACKS", ())
    with caplog.at_level(logging.WARNING):
        draw_confusion_matrix(COUNTS, ["\u67aa\u652f", "\u5200"])
        draw_confusion_matrix(COUNTS, ["\u67aa", "\u5200"])
    assert [chart_text.PACKAGE in record.getMessage() for record in caplog.records] == [True]
    assert not [each for each in recwarn if "Glyph" in str(each.message)]


def test_letters_come_from_an_installed_font_that_has_them(first_warning, monkeypatch, caplog):
    assert "STIXGeneral" in font_manager.get_font_names()
    letter = "\u20dd"  # which matplotlib's own default font has not
    monkeypatch.setattr(chart_text, "FALL_BACKS", ("a font that is not here", "STIXGeneral"))
    drawn = draw_confusion_matrix(COUNTS, [letter, "b"])
    assert not caplog.records
    monkeypatch.setattr(chart_text, "FALL_BACKS", ())
    assert not np.array_equal(drawn, draw_confusion_matrix(COUNTS, [letter, "b"]))
    assert len(caplog.records) == 1


def test_names_that_are_not_utf8_are_drawn():
    assert draw_confusion_matrix(COUNTS, [os.fsdecode(b"\xc7\xb9"), os.fsdecode(b"M\xfcller")]).any()
