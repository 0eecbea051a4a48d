"""Which images are shown."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data.coco_sets import reference, write_set
from xray_lazy.data.datasets import load_datasets
from xray_lazy.data.wanted_sets import load_side_by_side, open_wanted_sets, scanner_and_split
from xray_lazy.errors import UserError
from xray_lazy.visualization.image_choice import (
    Choice,
    check_classes,
    choose_records,
    draw_at_random,
    parse_size_range,
    wanted_items,
)


@pytest.fixture
def dataset(tmp_path):
    """Bags 10 to 17; 13 and 17 are empty; guns in the even ones, knives in the odd; all items are 20 x 15 pixels."""
    write_set(tmp_path, count=8)
    return load_datasets(reference(tmp_path))


def ids(dataset, **choice):
    return [record["image_id"] for record in choose_records(dataset, Choice(**choice))]


def test_without_a_wish_all_images_are_there_the_empty_ones_too(dataset):
    assert ids(dataset) == list(range(10, 18))


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"ids": ["12", "15"]}, [12, 15]),
        ({"names": ["bag_3.png", "bag_5"]}, [13, 15]),
        ({"names": ["bag_[01]*"]}, [10, 11]),
        ({"classes": ["knife"]}, [11, 15]),
        ({"classes": ["gun", "knife"]}, [10, 11, 12, 14, 15, 16]),
        ({"size": (0, 17.4)}, [10, 11, 12, 14, 15, 16]),  # the square of 20 x 15 pixels has a side of 17.3
        ({"size": (17.4, 99)}, []),
        ({"classes": ["gun"], "ids": ["10", "11"]}, [10]),
    ],
)
def test_images_are_found_by_what_they_are_and_what_is_in_them(dataset, choice, expected):
    assert ids(dataset, **choice) == expected


def test_class_and_size_must_be_those_of_one_item(dataset):
    first = {**dataset[0], "annotations": [{**a, "area": 100.0} for a in dataset[0]["annotations"]]}
    first["annotations"] += [{**dataset[1]["annotations"][0], "area": 10_000.0}]
    both = dataset.part([first], "both")
    assert not choose_records(both, Choice(classes=["gun"], size=(96, 1e6)))
    assert choose_records(both, Choice(classes=["knife"], size=(96, 1e6)))
    assert wanted_items(first, both.class_names, Choice(classes=["knife"])) == [False, True]


def test_an_unknown_class_is_told_with_the_known_ones(dataset):
    with pytest.raises(UserError, match="no class kinfe") as error:
        check_classes(Choice(classes=["kinfe"]), dataset.class_names)
    assert "gun, knife" in error.value.fix


@pytest.mark.parametrize(
    ("text", "expected"),
    [("small", (0, 32)), ("medium", (32, 96)), ("large", (96, float("inf"))), ("16-48.5", (16, 48.5)),
     ("-20", (0, 20)), ("200-", (200, float("inf")))],
)  # fmt: skip
def test_sizes_have_names_or_pixels(text, expected):
    assert parse_size_range(text) == expected


@pytest.mark.parametrize("text", ["tiny", "48-16", "-", "5-5", "a-b", "1-2-3", ""])
def test_other_sizes_are_an_error_that_shows_how(text):
    with pytest.raises(UserError, match="no range of sizes"):
        parse_size_range(text)


@given(count=st.integers(0, 40), size=st.integers(0, 30), seed=st.integers(0, 99))
def test_a_random_part_keeps_the_order_and_the_seed_its_choice(count, size, seed):
    drawn = draw_at_random(range(size), count, seed)
    assert len(drawn) == min(count, size) and drawn == sorted(set(drawn))
    assert draw_at_random(range(size), count, seed) == drawn


def test_another_seed_draws_others():
    assert len({tuple(draw_at_random(range(100), 5, seed)) for seed in range(10)}) == 10


@pytest.fixture
def root(tmp_path):
    """Named sets of two scanners."""
    for scanner, split, folder in (("a", "train", "train"), ("a", "val", "valid"), ("b", "train", "train")):
        content = write_set(tmp_path / "images" / scanner / folder, count=2)
        file = tmp_path / "annotations" / scanner / f"{split}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content))
    return str(tmp_path)


def names(*arguments):
    return [one.name for one in open_wanted_sets(*arguments)]


def test_without_a_name_all_sets_of_the_root_are_taken_by_scanner_and_split(root):
    assert names([], root) == ["xray_a_train", "xray_a_val", "xray_b_train"]
    assert names([], root, ["a"]) == ["xray_a_train", "xray_a_val"]
    assert names([], root, [], ["train"]) == ["xray_a_train", "xray_b_train"]
    assert names(["xray_a_train", "xray_a_val"], root, [], ["val"]) == ["xray_a_val"]


def test_where_no_set_is_left_the_message_names_those_that_are_there(root):
    with pytest.raises(UserError, match="of c") as error:
        open_wanted_sets([], root, ["c"])
    assert "xray_b_train" in error.value.fix


def test_sets_of_different_classes_share_one_list_of_them(tmp_path):
    for name, classes in (("one", ("gun", "knife")), ("two", ("knife", "saw"))):
        write_set(tmp_path / name, count=2, classes=classes)
    sets = [(str(tmp_path / n / "annotations.json"), str(tmp_path / n / "images")) for n in ("one", "two")]
    first, second = load_side_by_side(open_wanted_sets([*sets[0], *sets[1]]))
    assert first.class_names == second.class_names == ("gun", "knife", "saw")
    assert [a["category_id"] for record in second for a in record["annotations"]] == [1, 2]
    assert [record["image_id"] for record in second] == [10, 11]


def test_a_name_tells_scanner_and_split():
    assert scanner_and_split("xray_smith_two_val") == ("smith_two", "val")
    assert scanner_and_split("annotations") == ("annotations", "")
