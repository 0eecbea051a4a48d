"""Repair fixes what needs no guess, tells each change, and repairing again changes nothing."""

import copy
import json

import numpy as np
import pytest
from coco_examples import SIZE, SQUARE, instance, sound_set, write_images
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as pycocotools_mask

from xray_lazy.data.check import CocoSet, check_sets
from xray_lazy.data.check.image_facts import ImageFacts
from xray_lazy.data.check.kinds import ERROR, KINDS
from xray_lazy.data.check.masks import clip_polygon
from xray_lazy.data.repair import check_targets, refuse_nothing, repair, write_repaired
from xray_lazy.data.scanners import SCANNER_SIZES, scanner_size
from xray_lazy.errors import UserError

WIDTH, HEIGHT = SIZE
POINTS = [[10, 10], [30, 10], [30, 30], [10, 30]]  # of SQUARE


@pytest.fixture
def folder(tmp_path):
    return write_images(tmp_path / "images")


def repaired_instance(**changes) -> dict | None:
    """What repair leaves of one more annotation, or None where it drops it."""
    content = sound_set()
    content["annotations"].append(instance(9, **{"category_id": 2, **changes}))
    result = repair(CocoSet("set", content))
    return next((entry for entry in result.content["annotations"] if entry["id"] == 9), None)


def test_sound_set_is_left_as_it_is(folder):
    result = repair(CocoSet("set", sound_set(), folder))
    assert result.content == sound_set()
    assert result.changes == [] and result.left.trainable


def test_sizes_come_from_the_files(folder):
    content = sound_set()
    content["images"][0].update(width=0, height=0)
    content["images"][1].update(width=90)
    del content["images"][2]["width"]
    result = repair(CocoSet("set", content, folder))
    assert result.content == sound_set()
    assert [(c.kind, c.id, c.change) for c in result.changes] == [
        ("size_missing", 1, "64x48"),
        ("size_differs", 2, "64x48"),
        ("size_missing", 3, "64x48"),
    ]


def test_size_of_the_scanner_serves_where_there_is_no_file(folder):
    (folder / "2.png").unlink()
    content = sound_set()
    for image in content["images"]:
        image.update(width=0, height=0)
    result = repair(CocoSet("set", content, folder), size=scanner_size("smith"))
    assert [(image["width"], image["height"]) for image in result.content["images"]] == [SIZE, (1680, 1050), SIZE]


def test_size_is_taken_upright(folder):
    exif = Image.Exif()
    exif[0x112] = 6
    Image.open(folder / "2.png").save(folder / "2.png", exif=exif)
    image = repair(CocoSet("set", sound_set(), folder)).content["images"][1]
    assert (image["width"], image["height"]) == (HEIGHT, WIDTH)


def test_annotations_of_a_image_that_was_scaled_later_are_not_touched(folder):
    write_images(folder, ["2.png"], (25, 20), seed=5)
    result = repair(CocoSet("set", sound_set(), folder))
    assert result.content == sound_set()
    assert [finding.kind for finding in result.left.sets[0].findings] == ["size_conflict"]


def test_missing_and_broken_images_go_only_when_told(folder):
    (folder / "1.png").unlink()
    (folder / "2.png").write_bytes((folder / "2.png").read_bytes()[:3000])
    kept = repair(CocoSet("set", sound_set(), folder))
    assert kept.content == sound_set() and not kept.left.trainable
    dropped = repair(CocoSet("set", sound_set(), folder), drop_unreadable=True)
    assert [image["id"] for image in dropped.content["images"]] == [3]
    assert [entry["id"] for entry in dropped.content["annotations"]] == [3]
    assert [finding.kind for finding in dropped.left.sets[0].findings] == ["class_not_trained"]


def test_class_ids_become_contiguous_and_same_names_one_class():
    content = sound_set()
    content["categories"] = [
        {"id": 30, "name": "knife"},
        {"id": 7, "name": "gun"},
        {"id": 31, "name": "knife", "supercategory": "sharp"},
    ]
    for entry, category in zip(content["annotations"], (7, 30, 31), strict=True):
        entry["category_id"] = category
    result = repair(CocoSet("set", content))
    assert result.content["categories"] == [{"id": 2, "name": "knife"}, {"id": 1, "name": "gun"}]
    assert [entry["category_id"] for entry in result.content["annotations"]] == [1, 2, 2]


def test_annotations_without_image_or_class_are_dropped():
    assert repaired_instance(image_id=77) is None
    assert repaired_instance(category_id=77) is None


def test_nothing_is_dropped_for_want_of_a_class_whose_entry_lost_its_id():
    content = sound_set()
    del content["categories"][1]["id"]
    result = repair(CocoSet("set", content))
    assert [entry["id"] for entry in result.content["annotations"]] == [1, 2, 3]
    assert not result.left.trainable


def test_copied_entries_are_dropped_and_ids_made_unique():
    content = sound_set()
    content["images"].append(dict(content["images"][0]))
    content["images"].append({**content["images"][0], "id": 8})
    content["annotations"] += [instance(2, 3, 2), instance(0, 2, 1), instance(None, 1, 2), instance(50)]
    result = repair(CocoSet("set", content))
    assert [image["id"] for image in result.content["images"]] == [1, 2, 3]
    assert [entry["id"] for entry in result.content["annotations"]] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("ids", "numbers"),
    [
        (["Pa", "Pb", "Pc"], [1, 2, 3]),
        (["7", "8", 2.0], [7, 8, 2]),
        (["1", "01", "2"], [3, 4, 2]),
        (["1", 1, "x"], [2, 1, 3]),
        ([2**70, 5, "4"], [6, 5, 4]),
    ],
)
def test_ids_become_numbers_of_their_own_and_references_follow(ids, numbers):
    content = sound_set()
    for image, annotation, id in zip(content["images"], content["annotations"], ids, strict=True):
        image["id"] = annotation["image_id"] = id
        annotation["id"] = f"i{annotation['id']}"
    result = repair(CocoSet("set", content))
    assert [image["id"] for image in result.content["images"]] == numbers
    assert [annotation["image_id"] for annotation in result.content["annotations"]] == numbers
    assert [annotation["id"] for annotation in result.content["annotations"]] == [1, 2, 3]
    assert result.left.trainable and not result.left.sets[0].findings


def test_classes_with_text_for_ids_are_numbered_and_numbers_for_names_become_text():
    content = sound_set()
    for category, id in zip(content["categories"], ("/m/04ctx", "/m/0k4j"), strict=True):
        category |= {"id": id, "name": category["id"]}
    for annotation, id in zip(content["annotations"], ("/m/04ctx", "/m/0k4j", "/m/04ctx"), strict=True):
        annotation["category_id"] = id
    result = repair(CocoSet("set", content))
    assert result.content["categories"] == [{"id": 1, "name": "1"}, {"id": 2, "name": "2"}]
    assert [annotation["category_id"] for annotation in result.content["annotations"]] == [1, 2, 1]


def test_annotations_of_classes_that_are_shifted_stay():
    content = sound_set()
    for annotation in content["annotations"]:
        annotation["category_id"] -= 1
    result = repair(CocoSet("set", content))
    assert result.changes == [] and result.content is content and not result.left.trainable


def test_numbers_in_odd_spelling_become_numbers():
    entry = repaired_instance(image_id="1", category_id=2.0, area="400", bbox=["10", 10, 20, "20.0"], iscrowd="0")
    assert entry == instance(9, 1, 2)


@pytest.mark.parametrize("box", [None, [], [1, 2], [10, 10, 0, 0], [900, 10, 20, 20], [13, 17, 20, 20], [0, 0, 64, 48]])
def test_box_comes_from_the_mask(box):
    assert repaired_instance(bbox=box)["bbox"] == [10, 10, 20, 20]


def test_box_alone_is_clipped_or_dropped():
    clipped = repaired_instance(bbox=[50, -5, 20, 25], area=500, segmentation=None)
    assert clipped["bbox"] == [50, 0, 14, 20] and clipped["area"] == 280
    assert repaired_instance(bbox=[70, 10, 20, 20], segmentation=None) is None
    assert repaired_instance(bbox=[10, 10, 0, 20], segmentation=None) is None


def test_only_the_bad_part_of_a_mask_goes():
    parts = [[1, 1, 5, 5], SQUARE, [1, 1, 2], [100, 100, 110, 100, 110, 110], ["x"] * 6]
    entry = repaired_instance(segmentation=parts)
    assert entry["segmentation"] == [SQUARE]
    assert (entry["bbox"], entry["area"]) == ([10, 10, 20, 20], 400)


def test_instance_whose_mask_is_lost_keeps_its_box():
    entry = repaired_instance(segmentation=[[1, 1, 5, 5]])
    assert entry["segmentation"] == [] and entry["bbox"] == [10, 10, 20, 20]


def test_flat_polygon_is_wrapped():
    assert repaired_instance(segmentation=SQUARE)["segmentation"] == [SQUARE]


@pytest.mark.parametrize(
    "nested",
    [
        [[SQUARE]],
        [[[SQUARE]]],
        [POINTS],
        POINTS,
        [[[x, y] for x, y in POINTS]],
        [{"x": x, "y": y} for x, y in POINTS],
        [[{"x": str(x), "y": y} for x, y in POINTS]],
        [list(map(str, SQUARE))],
        list(map(str, SQUARE)),
        json.dumps([SQUARE]),
        json.dumps([POINTS]),
        ",".join(map(str, SQUARE)),
        [" ".join(map(str, SQUARE))],
        [{"X": x, "Y": y} for x, y in POINTS],
        {"all_points_x": SQUARE[0::2], "all_points_y": SQUARE[1::2]},
        [{"points": POINTS}],
    ],
)
def test_masks_in_other_nestings_are_rewritten(nested):
    result = repaired_instance(segmentation=nested)
    assert result["segmentation"] == [SQUARE] and result["bbox"] == instance(1)["bbox"]


def test_several_polygons_in_other_nestings_stay_several():
    other = [40, 10, 50, 10, 50, 20]
    assert repaired_instance(segmentation=[[SQUARE], [other]], bbox=[10, 10, 40, 20], area=450)["segmentation"] == [
        SQUARE,
        other,
    ]
    assert repaired_instance(segmentation=[[SQUARE, other]])["segmentation"] == [SQUARE, other]
    assert repaired_instance(segmentation=[SQUARE, POINTS])["segmentation"] == [SQUARE, SQUARE]


@pytest.mark.parametrize("respelled", [lambda r: [r], lambda r: r | {"size": ["48", 64.0]}, json.dumps])
def test_run_lengths_in_other_forms_are_rewritten(respelled):
    runs = [10 * 48 + 10, *[20, 28] * 19, 20]
    rle = {"size": [48, 64], "counts": [*runs, 48 * 64 - sum(runs)]}
    assert repaired_instance(segmentation=respelled(rle))["segmentation"] == rle
    assert all(type(side) is int for side in repaired_instance(segmentation=respelled(rle))["segmentation"]["size"])


def test_several_run_length_encodings_become_one():
    bars = [
        {"size": [48, 64], "counts": [x * 48 + 10, *[20, 28] * 9, 20, 48 * 64 - (x + 9) * 48 - 30]} for x in (10, 20)
    ]
    entry = repaired_instance(segmentation=bars)
    mask = pycocotools_mask.decode(entry["segmentation"])
    assert mask[10:30, 10:30].all() and mask.sum() == 400


def test_polygon_is_clipped_with_box_and_area():
    entry = repaired_instance(segmentation=[[50, 10, 80, 10, 80, 30, 50, 30]], bbox=[50, 10, 30, 20], area=600)
    assert entry["bbox"] == [50, 10, 14, 20]
    assert entry["area"] == 280


def test_values_that_follow_from_another_repair_are_told_with_it():
    content = sound_set()
    content["annotations"].append(instance(9, 1, 2, segmentation=[SQUARE, [1, 1, 5]], bbox=[1, 1, 29, 29], area=500))
    (change,) = repair(CocoSet("set", content)).changes
    assert change.change == "part 2 dropped, bbox [10, 10, 20, 20], area 400"


def test_missing_values_are_filled_in():
    entry = repaired_instance(area=None, iscrowd=None)
    assert entry == instance(9, 1, 2)


def test_input_stays_as_it_is():
    content = sound_set()
    content["annotations"].append(instance(9, image_id="1", segmentation=SQUARE, bbox=[-50, 0, 100, 90], area=None))
    content["categories"][1]["id"] = 9
    before = copy.deepcopy(content)
    assert repair(CocoSet("set", content)).changes
    assert content == before


def test_other_fields_are_kept():
    content = {**sound_set(), "info": {"scanner": "smith"}, "licenses": []}
    content["images"][0].update(width=0, bag="A17")
    content["annotations"].append(instance(9, image_id="1", category_id=2, score=0.5))
    result = repair(CocoSet("set", content), size=SIZE).content
    assert result["info"] == {"scanner": "smith"}
    assert result["images"][0]["bag"] == "A17"
    assert result["annotations"][-1]["score"] == 0.5


@given(st.lists(st.tuples(st.integers(-40, 100), st.integers(-40, 90)), min_size=3, max_size=8))
@settings(max_examples=150, deadline=None)
def test_clipped_polygon_covers_what_the_polygon_covers_inside(points):
    shift = 50  # draw both on a canvas that holds all of the polygon, and compare inside the image only
    part = [float(value) for point in points for value in point]
    clipped = clip_polygon(part, SIZE)
    assert all(0 <= x <= WIDTH for x in clipped[0::2]) and all(0 <= y <= HEIGHT for y in clipped[1::2])

    def drawn(polygon: list[float]) -> np.ndarray:
        if len(polygon) < 6:
            return np.zeros((HEIGHT, WIDTH), np.uint8)
        moved = [value + shift for value in polygon]
        canvas = pycocotools_mask.decode(pycocotools_mask.frPyObjects([moved], 200, 200))[:, :, 0]
        return canvas[shift : shift + HEIGHT, shift : shift + WIDTH]

    # pixels along an outline may fall to either side; none may differ inside
    differing = drawn(part) != drawn(clipped)
    eroded = differing[:-2, :-2] & differing[1:-1, 1:-1] & differing[2:, 2:] & differing[2:, :-2] & differing[:-2, 2:]
    assert not eroded.any()


# Values as exports have them: right, odd, wrong.
ids = st.sampled_from([1, 2, 3, 4, 4, 0, -1, "2", 3.0, 2.5, None, "x", True, [1], 10**30])
coordinate = st.one_of(
    st.integers(-20, 90),
    st.floats(-100, 200),
    st.sampled_from([0, "12", None, float("nan"), float("inf"), 1e300, 1e-300, 0.0005, True]),
)
good_coordinate = st.floats(-30, 100).map(lambda value: round(value, 2))
polygon = st.one_of(
    st.just(SQUARE), st.lists(good_coordinate, min_size=6, max_size=12), st.lists(coordinate, max_size=9)
)
run_lengths = st.one_of(
    st.just([500, 40, WIDTH * HEIGHT - 540]),
    st.lists(st.integers(-3, 3000), max_size=5),
    st.text(alphabet="0123ABXYZ`abcmno~", max_size=12),
)
rle = st.fixed_dictionaries(
    {"size": st.sampled_from([[HEIGHT, WIDTH], [WIDTH, HEIGHT], [0, 5], None, [48]]), "counts": run_lengths}
)
nested = st.recursive(polygon, lambda inside: st.lists(inside, max_size=3), max_leaves=4)
masks = st.one_of(
    nested, polygon, rle, st.lists(rle, max_size=2), nested.map(str), st.sampled_from([None, {}, "mask", 5])
)
boxes = st.one_of(
    st.just([10, 10, 20, 20]), st.lists(coordinate, max_size=5), st.lists(good_coordinate, min_size=4, max_size=4)
)
any_number = st.sampled_from([0, 1, 5, 400, -1, "400", None, float("nan"), "x", 1e200, True])
side = st.sampled_from([0, WIDTH, HEIGHT, 2 * WIDTH, 2 * HEIGHT, "64", 48.0, None, -5, "x"])


def entries(**fields):
    whole = st.fixed_dictionaries({}, optional=fields)
    return st.lists(st.one_of(whole, whole, whole, st.sampled_from([None, 3, []])), max_size=5)


broken_sets = st.fixed_dictionaries(
    {
        "images": entries(
            id=ids, file_name=st.sampled_from(["1.png", "2.png", "3.png", "./1.png", "", None]), width=side, height=side
        ),
        "annotations": entries(
            id=ids, image_id=ids, category_id=ids, bbox=boxes, area=any_number, iscrowd=any_number, segmentation=masks
        ),
        "categories": entries(id=ids, name=st.sampled_from(["gun", "knife", "Knife ", "", None, 5])),
    }
)
file_facts = st.sampled_from(
    [
        ImageFacts(SIZE),
        ImageFacts(SIZE, turned=True),
        ImageFacts((2 * WIDTH, 2 * HEIGHT)),
        ImageFacts(None, fault="picture_missing", why="does not exist"),
    ]
)


@given(broken_sets, st.lists(file_facts, min_size=3, max_size=3), st.booleans(), st.sampled_from([None, SIZE]))
@settings(max_examples=300, deadline=None)
def test_repairing_twice_is_repairing_once(tmp_path_factory, content, facts, drop, size):
    folder = tmp_path_factory.getbasetemp()
    known = {folder / f"{number}.png": fact for number, fact in enumerate(facts, start=1)}
    before = repr(content)
    first = repair(CocoSet("set", content, folder), size, drop, known)
    second = repair(CocoSet("set", first.content, folder), size, drop, known)
    assert repr(content) == before
    assert second.changes == []
    assert second.content is first.content
    # what is left needs a person: no finding promises a repair
    assert not any(finding.change for finding in first.left.sets[0].findings)


sound_ids = st.sampled_from([1, 2, 3])


@given(
    st.lists(
        st.fixed_dictionaries(
            {"image_id": sound_ids, "category_id": st.sampled_from([1, 2]), "segmentation": masks, "bbox": boxes},
            optional={"id": ids, "area": any_number, "iscrowd": any_number},
        ),
        min_size=1,
        max_size=6,
    )
)
@settings(max_examples=150, deadline=None)
def test_instances_of_sound_images_have_no_error_after_repair(annotations):
    result = repair(CocoSet("set", {**sound_set(), "annotations": annotations}))
    left = {finding.kind for finding in result.left.sets[0].findings if KINDS[finding.kind].severity == ERROR}
    if "box_form" in left:
        return  # no box of such a set is changed
    # an RLE of another size may be right for another image, a box and a mask may be of two items, and all
    # annotations may have been unusable
    assert left <= {"rle_size", "box_mask_conflict", "no_instances", "nothing_to_train", "class_not_trained"}
    for entry in result.content["annotations"]:
        x, y, width, height = entry["bbox"]
        assert x >= -1 and y >= -1 and x + width <= WIDTH + 1 and y + height <= HEIGHT + 1
        assert width > 0 and height > 0 and entry["area"] >= 0 and entry["iscrowd"] in (0, 1)


def test_new_file_and_changes_are_written(tmp_path):
    content = sound_set()
    content["images"][0].update(width=0)
    result = repair(CocoSet("set", content), size=SIZE)
    write_repaired(result, str(tmp_path / "new.json"), str(tmp_path / "changes.json"))
    assert json.loads((tmp_path / "new.json").read_text()) == sound_set()
    (change,) = json.loads((tmp_path / "changes.json").read_text())
    assert change["kind"] == "size_missing" and change["id"] == 1 and change["change"] == "64x48"


def test_input_and_other_files_are_never_overwritten(tmp_path):
    source, other = tmp_path / "set.json", tmp_path / "other.json"
    for path in (source, other):
        path.write_text('{"images": [], "annotations": []}')
    (tmp_path / "link.json").symlink_to(source)
    for output in (source, tmp_path / "link.json"):
        with pytest.raises(UserError, match="is the input"):
            check_targets(str(source), str(output), None, overwrite=True)
    with pytest.raises(UserError, match="is the input"):
        check_targets(str(source), str(tmp_path / "new.json"), str(source), overwrite=True)
    with pytest.raises(UserError, match="is there already"):
        check_targets(str(source), str(other), None)
    with pytest.raises(UserError, match="none is named"):
        check_targets(str(source), None, None)
    check_targets(str(source), str(other), None, overwrite=True)
    check_targets(str(source), None, None, dry_run=True)


def test_sizes_of_scanners():
    assert SCANNER_SIZES["astrophysics"] == (1920, 1080)
    assert scanner_size("rapiscan") == (1680, 1050)
    with pytest.raises(UserError, match="acme"):
        scanner_size("acme")


@pytest.mark.parametrize(
    "mask",
    [
        [[0.125, 0.25, 0.375, 0.25, 0.375, 0.5, 0.125, 0.5]],  # shares of the image
        [[40, 2, 60, 2, 60, 46, 40, 46]],
        [[2, 0, 60, 0, 60, 46, 2, 46]],  # spread over the image
    ],
)
def test_a_box_that_hardly_overlaps_with_its_mask_is_left_and_told(mask):
    content = sound_set()
    content["annotations"].append(instance(9, category_id=2, bbox=[10, 10, 16, 16], segmentation=mask, area=77))
    result = repair(CocoSet("set", content))
    assert result.content == content and result.changes == []
    assert [(f.kind, f.id) for f in result.left.sets[0].findings] == [("box_mask_conflict", 9)]


@pytest.mark.parametrize(
    "name",
    [
        "C:\\export\\images\\{}.png",
        "images\\{}.png",
        "images/{}.png",
        "/data/set/{}.png",
        "https://host.example/img/{}.png?sig=a/b&x=1",
        "/data/local-files/?d=images/{}.png",
        "img%2F{}.PNG",
        "{}.png ",
        "JPEGImage/{}",
    ],
)
def test_names_whose_last_part_one_file_has_are_corrected(folder, name):
    content = sound_set()
    for image in content["images"]:
        image["file_name"] = name.format(image["id"])
    one = CocoSet("set", content, folder)
    assert {f.kind for f in check_sets([one]).sets[0].findings} == {"picture_name"}
    result = repair(one, drop_unreadable=True)
    assert result.content == sound_set() and result.left.trainable


def test_a_name_that_several_files_or_several_names_fit_is_not_corrected(folder):
    write_images(folder / "day 2", ["1.png"], seed=4)
    content = sound_set()
    content["images"][0]["file_name"] = "x/1.png"
    content["images"][1]["file_name"] = "x/2.png"
    content["images"].append({**content["images"][1], "id": 4, "file_name": "y/2.png"})
    content["images"].append({**content["images"][1], "id": 5, "file_name": "y/3.png"})  # 3.png is taken
    content["images"].append({**content["images"][1], "id": 6, "file_name": "https://host.example/9.png?x=2"})
    result = repair(CocoSet("set", content, folder))
    assert result.changes == []
    assert [f.id for f in result.left.sets[0].findings if f.kind == "picture_missing"] == [1, 2, 4, 5, 6]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"categories": []}, "no annotation of set: the list `categories` is empty"),
        ({"annotations": [{"id": 1, "image_id": 1, "caption": "a bag"}]}, "COCO captions"),
        ({"annotations": [{"image_id": 1, "segments_info": [{"id": 7, "category_id": 1}]}]}, "COCO panoptic"),
        ({"annotations": [{"id": 1, "image_id": 1, "category_id": 1, "score": 1}]}, "no annotation has a `bbox`"),
        ({"images": []}, "no image of set"),
    ],
)
def test_a_repair_that_leaves_nothing_is_refused_and_the_format_named(changes, why):
    one = CocoSet("set", {**sound_set(), **changes})
    with pytest.raises(UserError, match=why):
        refuse_nothing(one, repair(one))


def test_a_repair_of_harmless_bags_alone_is_fine():
    one = CocoSet("set", {**sound_set(), "annotations": []})
    refuse_nothing(one, repair(one))


def test_an_annotation_that_is_left_as_it_is_keeps_its_class():
    categories = [{"id": 2, "name": "gun"}, {"id": 5, "name": "knife"}]
    content = sound_set() | {"categories": categories, "annotations": [instance(1, None, 5), instance(2, 2, 2)]}
    content["images"][0]["id"] = 0.5
    content["annotations"][0]["image_id"] = 0.5
    result = repair(CocoSet("set", content)).content
    assert [category["id"] for category in result["categories"]] == [1, 2]
    assert {annotation["id"]: annotation["category_id"] for annotation in result["annotations"]} == {1: 2, 2: 1}


@pytest.mark.parametrize("broken", [{"name": "saw"}, {"id": None, "name": "saw"}, {"id": 4}])
def test_classes_are_not_numbered_anew_beside_one_that_may_be_any(broken):
    content = sound_set() | {"categories": [{"id": 1, "name": "gun"}, {"id": 5, "name": "knife"}, broken]}
    content["annotations"] = [instance(1, 1, 2), instance(2, 2, 5)]
    result = repair(CocoSet("set", content)).content
    assert sorted(annotation["category_id"] for annotation in result["annotations"]) == [2, 5]


def test_copies_of_a_scan_with_one_class_each_become_one_image_with_all_items(folder):
    """Images 1 and 3 show the same, each with an item of its own; both have the third item, and 4 is the file of 1."""
    content = sound_set()
    (folder / "3.png").write_bytes((folder / "1.png").read_bytes())
    content["images"].append({**content["images"][0], "id": 4})
    knife = instance(3, 3, 2, bbox=[40, 10, 20, 20], segmentation=[[40, 10, 60, 10, 60, 30, 40, 30]])
    content["annotations"][2:] = [knife, instance(4, 1, 2, bbox=[0, 30, 10, 10], area=100, segmentation=None)]
    content["annotations"] += [{**content["annotations"][3], "id": 5, "image_id": 3}, instance(6, 4)]
    one = CocoSet("set", content, folder)
    (told,) = [f for f in check_sets([one]).sets[0].findings if f.kind == "copy_labelled_otherwise"]
    assert told.id == 3 and told.detail == "3.png is 1.png (id 1), with 2 items in place of 2 items"
    assert len(repair(one).content["images"]) == 4
    merged = repair(one, merge_copies=True)
    assert [image["id"] for image in merged.content["images"]] == [1, 2]
    assert {entry["id"]: entry["image_id"] for entry in merged.content["annotations"]} == {1: 1, 2: 2, 3: 1, 4: 1}
    again = repair(CocoSet("set", merged.content, folder), merge_copies=True)
    assert not again.changes and "copy_labelled_otherwise" not in {f.kind for f in again.left.sets[0].findings}


@pytest.mark.parametrize("ids", [[2**53, 2**53 + 1, 2**53 + 2], [2**53, "a", "b"], [2**53 - 1, "a", 2**60]])
def test_new_ids_stay_within_what_json_keeps_exact(ids):
    content = sound_set()
    for image, id in zip(content["images"], ids, strict=True):
        for entry in content["annotations"]:
            entry["image_id"] = id if entry["image_id"] == image["id"] else entry["image_id"]
        image["id"] = id
    for number, entry in enumerate(content["annotations"]):
        entry["id"] = 2**53 if number else "first"
    fixed = repair(CocoSet("set", content)).content
    assert not check_sets([CocoSet("set", fixed)]).sets[0].findings
    assert len(fixed["annotations"]) == len(content["annotations"])
