"""Where labels go."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from xray_lazy.visualization.labels import Label, place_labels

WIDTH, HEIGHT, SIZE = 800, 600, (90, 20)


def areas(boxes, size=SIZE, width=WIDTH, height=HEIGHT):
    labels = [Label("gun 0.97", (0, 0, 0), box, size) for box in boxes]
    return [(x, y, x + size[0], y + size[1]) for x, y in place_labels(labels, width, height)]


def overlap(a, b):
    return min(a[2], b[2]) > max(a[0], b[0]) and min(a[3], b[3]) > max(a[1], b[1])


def test_a_label_stands_above_its_item_below_at_the_upper_border():
    above, below = areas([(300, 200, 500, 400)])[0], areas([(300, 0, 500, 400)])[0]
    assert above[3] <= 200 and above[0] == 300
    assert below[1] >= 400


def test_a_label_is_centred_over_the_highest_point_of_a_mask():
    label = Label("gun", (0, 0, 0), (300, 200, 500, 400), SIZE, ends=(480, 310))
    ((x, y),) = place_labels([label], WIDTH, HEIGHT)
    assert x + SIZE[0] / 2 == 480 and y + SIZE[1] <= 200


def test_labels_of_items_side_by_side_cover_neither_each_other_nor_an_item():
    boxes = [(300, 200, 340, 400), (345, 200, 385, 400), (390, 200, 430, 400)]
    placed = areas(boxes)
    assert not any(overlap(a, b) for a, b in itertools.combinations(placed, 2))
    assert not any(overlap(a, box) for a in placed for box in boxes)


def test_labels_of_items_at_the_same_place_can_all_be_read():
    placed = areas([(300, 200, 500, 400)] * 6)
    assert not any(overlap(a, b) for a, b in itertools.combinations(placed, 2))


coordinate = st.integers(0, 599)


@given(boxes=st.lists(st.tuples(coordinate, coordinate, coordinate, coordinate), max_size=12))
def test_labels_stay_inside_the_image(boxes):
    boxes = [(min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in boxes]
    for x0, y0, x1, y1 in areas(boxes):
        assert x0 >= 0 and y0 >= 0 and x1 <= WIDTH and y1 <= HEIGHT


def test_a_label_larger_than_the_image_starts_in_its_corner():
    assert areas([(2, 2, 5, 5)], width=40, height=10)[0][:2] == (0, 0)
