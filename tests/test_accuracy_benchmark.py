"""The accuracy benchmark's splits, budgets and table; its trainings are not run here."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.accuracy import pretrained, table
from benchmarks.accuracy.job import Job, iterations_within
from benchmarks.accuracy.made_files import made_for
from benchmarks.accuracy.plot import Training, draw, read_csv, write_csv
from benchmarks.accuracy.protocols import make_split, scanner_of
from benchmarks.accuracy.rows import ROWS
from benchmarks.accuracy.table import Result, markdown, place_of, read_results
from xray_lazy.modeling.timm_backbone import TimmBackbone, without_batch_counts


def write_scans(folder):
    """A COCO file of five scanners with ten images each; one class is the fifth scanner's own."""
    images = [
        {"id": 100 * scanner + place, "file_name": f"{scanner}{place:05d}.jpg", "width": 60, "height": 40}
        for scanner in range(1, 6)
        for place in range(10)
    ]
    annotations = [
        {"id": n, "image_id": image["id"], "category_id": 1, "bbox": [5, 5, 20, 10], "area": 200, "iscrowd": 0}
        for n, image in enumerate(images)
    ]
    annotations.append({**annotations[-1], "id": 999, "category_id": 2})
    categories = [{"id": 1, "name": "knife"}, {"id": 2, "name": "nailpolish"}]
    path = folder / "annotations.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


def test_no_image_is_trained_on_and_tested_on(tmp_path):
    split = make_split(write_scans(tmp_path), tmp_path, tmp_path / "sets")
    files = {"train": split.train, "test": split.test, **split.tests}
    parts = {name: json.loads(path.read_text()) for name, path in files.items()}
    images = {name: {image["file_name"] for image in part["images"]} for name, part in parts.items()}
    scanners = {name: {scanner_of(file_name) for file_name in names} for name, names in images.items()}
    assert scanners == {"train": set("1234"), "in_domain": set("1234"), "new_scanner": {"5"}, "test": set("12345")}
    assert images["test"] == images["in_domain"] | images["new_scanner"]
    assert not images["train"] & images["test"]
    for part in parts.values():
        # what only the fifth scanner has can't be learned
        assert [category["name"] for category in part["categories"]] == ["knife"]
        assert {annotation["category_id"] for annotation in part["annotations"]} == {1}
    again = make_split(tmp_path / "annotations.json", tmp_path, tmp_path / "again")
    assert again.train.read_text() == split.train.read_text()


def test_a_set_of_one_scanner_has_no_new_one(tmp_path):
    split = make_split(write_scans(tmp_path), tmp_path, tmp_path / "sets", held_out="6")
    assert list(split.tests) == ["in_domain"]


def test_a_budget_is_iterations_beyond_the_start_up():
    # start-up of 5 seconds, 2 seconds for each iteration
    assert iterations_within(100, of_short=25, short=10, of_longer=65, longer=30) == (50, 2.0)
    assert iterations_within(1, of_short=25, short=10, of_longer=65, longer=30)[0] == 1


def test_all_seeds_of_a_row_train_as_long_as_the_first(tmp_path):
    jobs = [Job("", "", "", {}, str(place_of(tmp_path, "1 minutes", "row", seed)), seed, 60.0, 320) for seed in (0, 1)]
    jobs[0].save()
    assert jobs[0].of_another_seed("iterations") is None
    jobs[0].finish([], seconds=63.0, iterations=500)
    assert jobs[1].of_another_seed("iterations") == 500


def test_the_table_has_the_mean_and_the_spread_of_seeds(tmp_path):
    split = make_split(write_scans(tmp_path), tmp_path, tmp_path / "sets")
    names = [image["file_name"] for image in json.loads(split.test.read_text())["images"]]
    known = [name for name in names if scanner_of(name) != "5"]
    tests = {name: str(path) for name, path in split.tests.items()}
    for row, seen in (("all", names), ("known", known)):
        for seed in (0, 1):
            job = Job(str(tmp_path), str(split.train), str(split.test), tests, "", seed, 60.0, 320)
            job.folder = str(place_of(tmp_path / "results", "1 minutes", row, seed))
            job.save()
            found_in = set(seen if seed or row == "all" else ())
            knife = ([[5, 5, 25, 15]], [0.9], [0])
            found = job.detect(lambda path, names=found_in, knife=knife: knife if path.name in names else ([], [], []))
            job.finish(found, seconds=63.0, parameters=2_500_000)
    lines = markdown(read_results(tmp_path / "results")).splitlines()
    tables, classes = {}, {}
    for line in lines:
        if line.startswith("###"):
            rows = tables.setdefault(line, [])
        elif line == "AP50 by class:":
            rows = classes.setdefault(next(reversed(tables)), [])
        elif line.startswith("|"):
            rows.append([cell.strip() for cell in line.split("|")[1:-1]])
    in_domain, new_scanner = (tables[f"### {name}, 1 minutes"][2:] for name in ("in_domain", "new_scanner"))
    for first in (in_domain[0], new_scanner[0]):
        assert first[:4] == ["all", "2", "100.0", "+-0.0"] and first[6:] == ["2.5 M", "1.1 min"]
    assert classes["### in_domain, 1 minutes"][::2] == [["row", "knife"], ["all", "100.0"]]
    # one seed found nothing at all, the other one nothing of the new scanner
    assert in_domain[1][:4] == ["known", "2", "50.0", "+-70.7"]
    assert new_scanner[1][:4] == ["known", "2", "0.0", "+-0.0"]


def test_rare_classes_and_empty_bags_have_figures_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr(table, "RARE", 30)
    path = write_scans(tmp_path)
    document = json.loads(path.read_text())
    document["categories"].append({"id": 3, "name": "gun"})
    empty = {image["id"] for image in document["images"] if image["id"] % 2}
    knives = [one for one in document["annotations"] if one["image_id"] not in empty] * 2
    guns = [{**one, "category_id": 3} for one in knives[: len(knives) // 2]]
    document["annotations"] = [{**one, "id": number} for number, one in enumerate(knives + guns)]
    path.write_text(json.dumps(document))
    split = make_split(path, tmp_path, tmp_path / "sets")
    job = Job(
        str(tmp_path),
        str(split.train),
        str(split.test),
        {"new_scanner": str(split.tests["new_scanner"])},
        "",
        0,
        60.0,
        320,
    )
    job.folder = str(place_of(tmp_path / "results", "9 iterations", "row", 0))
    job.save()
    knife, lower = [5, 5, 25, 15], ([[5, 5, 25, 15]], [0.2], [0])
    with_items = {f"5{place:05d}.jpg" for place in range(0, 10, 2)}
    job.finish(job.detect(lambda path: ([knife], [0.9], [0]) if path.name in with_items else lower), seconds=1.0)
    ((result,),) = [read_results(tmp_path / "results")]
    figures = {name: value[0] for name, value in result.figures["new_scanner"].items()}
    assert figures["AP50 class knife"] == pytest.approx(50, abs=1) and figures["AP50 class gun"] == 0
    assert figures[table.RARE_AP50] == 0 and figures[table.DETECTION] == 100


def test_rows_get_the_files_that_are_made_of_the_images(tmp_path):
    annotations = write_scans(tmp_path)
    images = tmp_path / "images"
    images.mkdir()
    for scanner in "12":
        scan = np.full((40, 60, 3), 240, np.uint8)
        cv2.circle(scan, (30, 20), 15, (90, 60 * int(scanner), 100), thickness=-1)
        cv2.imwrite(str(images / f"{scanner}00000.jpg"), scan)
    split = make_split(annotations, images, tmp_path / "sets")
    made = made_for(ROWS["few_scans_colours"].settings["overrides"], split)
    assert list(made) == ["COLOURS"]
    assert list(json.loads(Path(made["COLOURS"]).read_text())["scanners"]) == ["s1", "s2"]
    assert not made_for(ROWS["faster_rcnn_few_scans_plain"].settings["overrides"], split)


def test_shipped_weights_become_a_backbone_of_timm():
    timm = pytest.importorskip("timm")
    network = timm.create_model(pretrained.ARCHITECTURE)
    # the package names the same layers in the same order otherwise
    weights = without_batch_counts(network.state_dict())
    shipped = {f"_{place}": value for place, value in enumerate(weights.values())}
    checkpoint = pretrained.renamed(shipped)
    backbone = TimmBackbone(pretrained.ARCHITECTURE, ["res3", "res4", "res5"])
    wanted = without_batch_counts(backbone.state_dict(prefix="backbone.bottom_up."))
    assert wanted.keys() <= checkpoint.keys()
    assert all(checkpoint[name].equal(weights[name.removeprefix(pretrained.PREFIX)]) for name in wanted)
    with pytest.raises(ValueError, match="conv_stem"):
        pretrained.renamed(dict(list(shipped.items())[1:]))


def test_trainings_are_kept_as_lines_and_drawn(tmp_path):
    figures = {"in_domain": {"AP": (18.234, 11.0, 26.0)}, "new_scanner": {}}
    results = [
        Result("faster_rcnn_few_scans", 0, "20 minutes", {"seconds": 1266.0}, figures),
        Result("yolo11n", 2, "20 minutes", {"seconds": 960.0}, figures),
    ]
    file = tmp_path / "trainings.csv"
    write_csv(results, file)
    known = read_csv(file)
    assert known == [
        Training("faster_rcnn_few_scans", "ImageNet", 0, 21.1, 18.23, 0.0),
        Training("yolo11n", "nothing", 2, 16.0, 18.23, 0.0),
    ]
    file.write_text(file.read_text() + "yolo11n,nothing,0,35,1.8,\n")
    assert read_csv(file)[-1].new_scanner is None
    draw(read_csv(file), tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 10_000
