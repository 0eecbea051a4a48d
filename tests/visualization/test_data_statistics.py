"""Numbers of data sets, and their charts."""

import csv
import json

import cv2
import numpy as np
import pytest

from xray_lazy.data.datasets import DetectionDataset
from xray_lazy.visualization.data_report.data_statistics import save_statistics, statistics_of, summary
from xray_lazy.visualization.data_report.statistics_charts import draw_statistics_sheet, save_charts

CHARTS = {"statistics", "classes", "sizes_by_class", "sizes", "aspects", "per_picture", "positions"}


def item(class_id, box, area=None, crowd=0):
    return {"category_id": class_id, "bbox": box, "area": area or box[2] * box[3], "iscrowd": crowd}


def make_set(images, name="xray_a_train", class_names=("gun", "knife", "saw")):
    records = [
        {"file_name": f"{n}.png", "image_id": n, "width": 200, "height": 100, "annotations": items}
        for n, items in enumerate(images)
    ]
    return DetectionDataset(records, name, class_names, range(len(class_names)))


@pytest.fixture
def statistics():
    return statistics_of(
        make_set(
            [
                [item(0, [0, 0, 100, 50]), item(0, [0, 0, 20, 10]), item(1, [150, 75, 50, 25], area=900)],
                [item(1, [10, 10, 40, 40]), item(1, [0, 0, 200, 100], crowd=1)],
                [],
            ]
        )
    )


def test_items_images_and_crowds_are_counted(statistics):
    told = summary(statistics)
    assert (told["pictures"], told["pictures_without_items"], told["items"], told["crowd_regions"]) == (3, 1, 4, 1)
    assert statistics.per_image.tolist() == [3, 1, 0]
    assert statistics.class_counts.tolist() == [2, 2, 0]
    assert told["picture_sizes"] == {"200x100": 3}
    assert (told["scanner"], told["split"]) == ("a", "train")


def test_sizes_are_those_of_the_masks_by_cocos_limits(statistics):
    assert statistics.sides.tolist() == pytest.approx([70.7, 14.1, 30.0, 40.0], abs=0.1)
    assert statistics.size_shares == {"small": 0.5, "medium": 0.5, "large": 0.0}
    assert statistics.aspects.tolist() == [2, 2, 2, 1]


def test_the_map_says_which_share_of_the_boxes_covers_a_place(statistics):
    rows, columns = statistics.positions.shape
    assert statistics.positions[0, 0] == 0.5  # both guns
    assert statistics.positions[rows // 2 - 1, columns // 2 - 1] == 0.25  # the corner of the large one
    assert statistics.positions[-1, -1] == 0.25  # the knife at the lower right
    assert statistics.positions[0, -1] == 0
    assert statistics.class_positions(0)[0, 0] == 1 and statistics.class_positions(2).max() == 0


def test_a_box_beyond_the_image_or_thinner_than_a_cell_is_counted_once():
    dataset = make_set([[item(0, [-50, -50, 1000, 1000]), item(0, [199.9, 99.9, 0.05, 0.05])]])
    positions = statistics_of(dataset).positions
    assert positions.min() == 0.5
    assert (positions > 0.5).sum() <= 1


def test_files_say_the_same_for_other_programs(statistics, tmp_path):
    save_statistics([statistics], tmp_path)
    told = json.loads((tmp_path / "statistics.json").read_text())
    assert told[0]["items"] == 4 and np.array(told[0]["positions"]).max() == 0.5
    rows = list(csv.DictReader((tmp_path / "classes.csv").open()))
    assert [(row["class"], row["items"], row["pictures"]) for row in rows] == [
        ("gun", "2", "1"), ("knife", "2", "2"), ("saw", "0", "0"),
    ]  # fmt: skip
    assert rows[2]["median_side"] == "" and rows[0]["small"] == "1"


@pytest.mark.parametrize("count", [1, 6])
def test_charts_are_drawn_for_one_set_and_for_many(count, tmp_path):
    random = np.random.default_rng(0)
    sets = []
    for number in range(count):
        boxes = random.integers(5, 90, (20, 4)).tolist()
        images = [[item(place % 3, box)] for place, box in enumerate(boxes)]
        dataset = make_set(images, f"xray_{'ab'[number % 2]}_{('train', 'val', 'test')[number // 2]}")
        dataset.class_names = ("no formula: $\\frac$", *dataset.class_names[1:])
        sets.append(statistics_of(dataset))
    paths = save_charts(sets, tmp_path)
    assert {path.stem for path in paths} == CHARTS
    for path in paths:
        assert cv2.imread(str(path)).std() > 5, path


def test_a_set_without_items_has_charts_and_numbers_too():
    empty = statistics_of(make_set([[], []]))
    draw_statistics_sheet([empty]).canvas.draw()
    assert summary(empty)["side"] is None and summary(empty)["items"] == 0
