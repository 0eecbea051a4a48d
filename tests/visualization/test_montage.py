"""Images beside each other."""

import numpy as np
import pytest

from xray_lazy.visualization.montage import contact_sheet, side_by_side


def plain(height, width, value=255):
    return np.full((height, width, 3), value, np.uint8)


@pytest.mark.parametrize(("left", "right"), [((192, 320), (192, 320)), ((100, 50), (300, 70)), ((1080, 1920), (5, 9))])
def test_both_images_are_whole_and_under_their_titles(left, right):
    pair = side_by_side(plain(*left, 1), plain(*right, 2))
    assert (pair == 1).all(axis=2).sum() == left[0] * left[1]
    assert (pair == 2).all(axis=2).sum() == right[0] * right[1]
    strip = pair.shape[0] - max(left[0], right[0])
    assert strip > 0
    assert (pair[:strip, : left[1]] > 200).any()


@pytest.mark.parametrize(("count", "columns", "rows"), [(1, 4, 1), (4, 2, 2), (5, 2, 3)])
def test_a_contact_sheet_holds_every_image(count, columns, rows):
    sheet = contact_sheet([plain(100, 200, 100 + i) for i in range(count)], columns=columns, cell_width=200)
    for index in range(count):
        assert (sheet == 100 + index).all(axis=2).sum() == 100 * 200
    assert sheet.shape[0] < rows * 110 + 10


def test_images_of_other_shapes_keep_their_proportions():
    sheet = contact_sheet([plain(100, 200), plain(100, 200), plain(550, 227, 7)], columns=3, cell_width=200)
    rows, columns = np.nonzero((sheet == 7).all(axis=2))
    height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
    assert height == 100 and width == round(227 * 100 / 550)


def test_no_images_are_an_error():
    with pytest.raises(ValueError, match="at least one"):
        contact_sheet([])
