"""The confusion matrix as an image."""

import numpy as np

from xray_lazy.visualization.confusion_chart import draw_confusion_matrix


def test_a_full_cell_is_dark_and_an_empty_one_light():
    counts = np.array([[9, 0, 0], [0, 9, 0], [0, 0, 0]])
    image = draw_confusion_matrix(counts, ("gun", "knife", "background"))
    assert image.dtype == np.uint8 and image.shape[2] == 3
    blue = (image[..., 2].astype(int) - image[..., 0] > 60).mean(axis=2 - 1)
    assert (image[..., 0] < 40).sum() > 2000  # two cells of deep blue
    assert blue.max() < 0.5  # never both in one row


def test_more_and_longer_names_make_it_larger_but_not_endless():
    names = [f"a very long name of class {number}" for number in range(20)]
    small = draw_confusion_matrix(np.eye(3, dtype=int), names[:3])
    large = draw_confusion_matrix(np.eye(20, dtype=int), names)
    assert small.shape[0] < large.shape[0] < 2000


def test_nothing_at_all_can_be_drawn():
    assert draw_confusion_matrix(np.zeros((2, 2), int), ("gun", "background")).mean() > 200


def test_of_many_classes_the_cells_are_smaller_not_the_image_endless():
    many = draw_confusion_matrix(np.eye(400, dtype=int), [f"class {number}" for number in range(400)])
    assert many.shape[0] < 3000
    assert (many[..., 0] < 40).sum() > 400  # the diagonal


def test_a_name_is_no_formula():
    assert draw_confusion_matrix(np.eye(2, dtype=int), ("gun $\\frac$", "background")).std() > 5
