"""The accuracy benchmark's splits, budgets and table; its trainings are not run here."""

import json

import pytest

from benchmarks.accuracy import pretrained
from benchmarks.accuracy.job import Job, iterations_within
from benchmarks.accuracy.protocols import PROTOCOLS, make_split, scanner_of
from benchmarks.accuracy.table import markdown, place_of, read_results
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


@pytest.mark.parametrize("protocol", list(PROTOCOLS))
def test_no_image_is_trained_on_and_tested_on(tmp_path, protocol):
    split = make_split(write_scans(tmp_path), tmp_path, protocol, tmp_path / "sets")
    train, test = (json.loads(path.read_text()) for path in (split.train, split.test))
    of_train, of_test = ({image["file_name"] for image in part["images"]} for part in (train, test))
    assert not of_train & of_test
    tested = {scanner_of(name) for name in of_test}
    assert tested == ({"5"} if protocol == "new_scanner" else set("1234"))
    assert {scanner_of(name) for name in of_train} == set("1234")
    # what only the fifth scanner has can't be learned
    assert [category["name"] for category in test["categories"]] == ["knife"]
    assert {annotation["category_id"] for annotation in test["annotations"]} == {1}
    again = make_split(tmp_path / "annotations.json", tmp_path, protocol, tmp_path / "again")
    assert again.train.read_text() == split.train.read_text()


def test_a_budget_is_iterations_beyond_the_start_up():
    # start-up of 5 seconds, 2 seconds for each iteration
    assert iterations_within(100, of_short=25, short=10, of_longer=65, longer=30) == (50, 2.0)
    assert iterations_within(1, of_short=25, short=10, of_longer=65, longer=30)[0] == 1


def test_the_table_has_the_mean_and_the_spread_of_seeds(tmp_path):
    split = make_split(write_scans(tmp_path), tmp_path, "in_domain", tmp_path / "sets")
    test = json.loads(split.test.read_text())
    for row, share in (("all", 1.0), ("half", 0.5)):
        for seed in (0, 1):
            job = Job(str(tmp_path), str(split.train), str(split.test), "", seed, 60.0, 320)
            job.folder = str(place_of(tmp_path / "results", "in_domain", 1.0, row, seed))
            job.save()
            names = [image["file_name"] for image in test["images"]]
            seen = set(names[: round(share * len(names))]) if seed or row == "all" else set()
            knife = ([[5, 5, 25, 15]], [0.9], [0])
            found = job.detect(lambda path, seen=seen, knife=knife: knife if path.name in seen else ([], [], []))
            job.finish(found, seconds=63.0, parameters=2_500_000)
    results = read_results(tmp_path / "results")
    assert [result.figures.get("AP", (0,))[0] for result in results if result.row == "all"] == pytest.approx([100, 100])
    lines = markdown(results).splitlines()
    assert lines[0] == "### in_domain, 1 minutes"
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[4:6]]
    assert cells[0][:4] == ["all", "2", "100.0", "+-0.0"] and cells[0][6:] == ["2.5 M", "1.1 min"]
    half = results[-1].figures["AP"][0]
    # of one seed nothing was found
    assert cells[1][0] == "half" and float(cells[1][2]) == pytest.approx(half / 2, abs=0.06)
    assert float(cells[1][3].removeprefix("+-")) == pytest.approx(half / 2**0.5, abs=0.06)


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
