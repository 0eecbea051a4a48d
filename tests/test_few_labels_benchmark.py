"""The sets of the benchmark of few labels; its trainings are not run here."""

import json
from argparse import Namespace

import pytest

from benchmarks.few_labels import ARMS, Trial, table


def write_bags(folder):
    """A COCO file of thirty images with an item each."""
    images = [{"id": n, "file_name": f"{n}.png", "width": 60, "height": 40} for n in range(30)]
    annotations = [
        {"id": n, "image_id": n, "category_id": 2 if n in (7, 19) else 1, "bbox": [5, 5, 20, 10]} for n in range(30)
    ]
    path = folder / "annotations.json"
    path.write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "gun"}]})
    )
    return path


def names_of(source):
    with open(source["json_file"]) as file:
        content = json.load(file)
    assert {one["image_id"] for one in content["annotations"]} == {one["id"] for one in content["images"]}
    return {image["file_name"] for image in content["images"]}


@pytest.mark.parametrize("seed", range(5))
def test_parts_share_no_image_and_what_is_unlabelled_has_no_labels(tmp_path, seed):
    options = Namespace(annotations=write_bags(tmp_path), images=tmp_path, results=tmp_path, labelled=5, test=10)
    trial = Trial(options, seed)
    tested, labelled = names_of(trial.set("test")), names_of(trial.set("labelled"))
    more, everything = (set().union(*map(names_of, sets)) for sets, _ in (trial.for_random(), trial.for_all()))
    assert len(tested) == 10 and len(labelled) == 5 and len(more) == 10 and len(everything) == 20
    assert labelled & {"7.png", "19.png"} or {"7.png", "19.png"} <= tested
    assert labelled < more < everything and not everything & tested
    unlabelled = json.loads((trial.sets / "unlabelled.json").read_text())
    assert not unlabelled["annotations"] and {one["file_name"] for one in unlabelled["images"]} == everything - labelled


def test_the_table_has_a_row_for_each_arm_with_the_mean_and_each_seed(tmp_path):
    for seed in (0, 1):
        (tmp_path / f"seed_{seed}").mkdir()
        for arm in ARMS:
            figures = {"images": 5, "bbox/AP": 10.0 + seed, "bbox/AP50": 30.0, "segm/AP": 9.0}
            (tmp_path / f"seed_{seed}" / f"{arm}.json").write_text(json.dumps(figures))
    rows = table(tmp_path, [0, 1]).splitlines()
    assert len(rows) == 2 + len(ARMS)
    assert rows[2] == "| labelled | 5, 5 | 10.5 (10.0, 11.0) | 30.0 (30.0, 30.0) | 9.0 (9.0, 9.0) |"
