"""Splits on disk: nothing lost, nothing twice, nothing half done; and the command as a person runs it."""

import errno
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xray_lazy.command_line import run_tool
from xray_lazy.data.dataset_places import IMAGE_FOLDERS, SPLITS
from xray_lazy.data.datasets import load_datasets
from xray_lazy.data.split import layout, plan_split, read_export, write_splits
from xray_lazy.errors import UserError

TOOL = Path(__file__).parents[2] / "tools" / "dataset.py"
SAMPLE = Path(__file__).parents[3] / "shared" / "xray_sample"
RATIOS = (0.7, 0.15, 0.15)


def write_export(folder: Path, names=None, **changes) -> tuple[Path, Path]:
    """`export.json` and `images/`: every second image holds a gun, every fifth a knife; ids have gaps."""
    names = names or [f"bag{number // 2}_{number % 2}.png" for number in range(20)]
    images = [{"id": 7 + 3 * i, "file_name": name, "width": 0, "height": 0} for i, name in enumerate(names)]
    annotations = []
    for i, image in enumerate(images):
        classes = [4] * (i % 2) + [9] * (i % 5 == 0)
        annotations += [
            {"id": 1000 + 10 * i + c, "image_id": image["id"], "category_id": c, "bbox": [1, 1, 2, 2]} for c in classes
        ]
        path = folder / "pictures" / image["file_name"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"image {image['file_name']}".encode())
    categories = [{"id": 4, "name": "gun"}, {"id": 9, "name": "knife"}]
    content = {"info": {"year": 2024}, "images": images, "annotations": annotations, "categories": categories}
    content["licenses"] = ["own"]
    (folder / "export.json").write_text(json.dumps({**content, **changes}))
    return folder / "export.json", folder / "pictures"


def split(export, output, scanner="smith", ratios=RATIOS, seed=0, group_by=None, **options) -> dict[str, dict]:
    """Split one export and read back what is on disk."""
    write_splits([plan_split(read_export(scanner, *export), ratios, seed, group_by)], output, **options)
    return read_split(output, scanner)


def read_split(output: Path, scanner: str = "smith") -> dict[str, dict]:
    files = {name: output / "annotations" / scanner / f"{name}.json" for name in SPLITS}
    return {name: json.loads(file.read_text()) for name, file in files.items() if file.exists()}


def images_on_disk(output: Path, scanner: str = "smith") -> dict[str, bytes]:
    folder = output / "images" / scanner
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def run(*arguments) -> subprocess.CompletedProcess:
    command = [sys.executable, str(TOOL), "split", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.parametrize("transfer", ["copy", "link", "move"])
def test_every_image_and_annotation_is_in_one_split_with_its_own_ids(tmp_path, transfer):
    export = write_export(tmp_path)
    content = json.loads(export[0].read_text())
    parts = split(export, tmp_path / "out", transfer=transfer)
    for entries in ("images", "annotations"):
        joined = [entry for part in parts.values() for entry in part[entries]]
        assert sorted(joined, key=lambda entry: entry["id"]) == content[entries]
    for name, part in parts.items():
        ids = {image["id"] for image in part["images"]}
        assert {annotation["image_id"] for annotation in part["annotations"]} <= ids
        assert [part[key] for key in ("info", "licenses", "categories")] == [
            content[key] for key in ("info", "licenses", "categories")
        ]
        for image in part["images"]:
            path = tmp_path / "out" / "images" / "smith" / IMAGE_FOLDERS[name] / image["file_name"]
            assert path.read_bytes() == f"image {image['file_name']}".encode()
    assert len(images_on_disk(tmp_path / "out")) == 20
    assert len([path for path in export[1].rglob("*") if path.is_file()]) == (0 if transfer == "move" else 20)
    assert [len(part["images"]) for part in parts.values()] == [14, 3, 3]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    names=st.lists(st.from_regex(r"(Tüte ?[ab]/)?[xy]{1,3}\.png", fullmatch=True), min_size=3, unique=True),
    seed=st.integers(0, 9),
    transfer=st.sampled_from(["copy", "link", "move"]),
)
def test_no_image_is_lost_or_twice_whatever_the_names(tmp_path, names, seed, transfer):
    shutil.rmtree(tmp_path)
    parts = split(write_export(tmp_path, names), tmp_path / "out", seed=seed, transfer=transfer)
    listed = [f"{IMAGE_FOLDERS[name]}/{image['file_name']}" for name, p in parts.items() for image in p["images"]]
    assert sorted(listed) == sorted(images_on_disk(tmp_path / "out"))
    assert sorted(path.split("/", 1)[1] for path in listed) == sorted(names)


def test_the_same_seed_gives_the_same_split_whatever_the_order_in_the_json(tmp_path):
    export = write_export(tmp_path)
    first = split(export, tmp_path / "one")
    content = json.loads(export[0].read_text())
    content["images"].reverse()
    content["annotations"].reverse()
    export[0].write_text(json.dumps(content))
    second = split(export, tmp_path / "two")
    assert images_on_disk(tmp_path / "one") == images_on_disk(tmp_path / "two")
    assert {i["id"] for i in first["val"]["images"]} == {i["id"] for i in second["val"]["images"]}


def test_images_of_one_bag_stay_together(tmp_path):
    parts = split(write_export(tmp_path), tmp_path / "out", group_by=r"^(bag\d+)_")
    bags = [{image["file_name"].split("_")[0] for image in part["images"]} for part in parts.values()]
    assert len(set().union(*bags)) == sum(map(len, bags)) == 10
    assert [len(part["images"]) for part in parts.values()] == [14, 4, 2]


def test_a_ratio_of_zero_leaves_the_split_out_and_overwriting_removes_the_old_one(tmp_path):
    export = write_export(tmp_path)
    assert set(split(export, tmp_path / "out")) == {"train", "val", "test"}
    parts = split(export, tmp_path / "out", ratios=(0.8, 0.2, 0), overwrite=True)
    assert {name: len(part["images"]) for name, part in parts.items()} == {"train": 16, "val": 4}
    assert len(images_on_disk(tmp_path / "out")) == 20
    assert not (tmp_path / "out" / "images" / "smith" / "test").exists()


def test_an_existing_split_stays_as_it_is_without_overwrite(tmp_path):
    export = write_export(tmp_path)
    split(export, tmp_path / "out")
    before = images_on_disk(tmp_path / "out"), read_split(tmp_path / "out")
    with pytest.raises(UserError, match="there is a split of smith already") as caught:
        split(export, tmp_path / "out", seed=1)
    assert "--overwrite" in caught.value.fix
    assert (images_on_disk(tmp_path / "out"), read_split(tmp_path / "out")) == before


def test_overwriting_never_deletes_images_that_the_new_split_does_not_have(tmp_path):
    split(write_export(tmp_path / "old", ["only_copy.png", "b.png", "c.png"]), tmp_path / "out", transfer="move")
    new = write_export(tmp_path / "new", ["b.png", "c.png", "d.png"])
    with pytest.raises(UserError, match=r"would lose images: .*only_copy\.png"):
        split(new, tmp_path / "out", overwrite=True)
    assert {Path(name).name for name in images_on_disk(tmp_path / "out")} == {"only_copy.png", "b.png", "c.png"}


def test_a_move_that_is_killed_has_the_whole_split_and_the_next_one_says_so(tmp_path, monkeypatch):
    export, delete = write_export(tmp_path), layout._delete

    def delete_some(images):
        delete(images[:5])
        raise KeyboardInterrupt

    monkeypatch.setattr(layout, "_delete", delete_some)
    with pytest.raises(KeyboardInterrupt):
        split(export, tmp_path / "out", transfer="move")
    assert len(images_on_disk(tmp_path / "out")) == sum(
        len(part["images"]) for part in read_split(tmp_path / "out").values()
    )
    with pytest.raises(UserError, match="5 images of 20 not in") as told:
        split(export, tmp_path / "out", transfer="move")
    assert "the split is whole" in told.value.fix and len(images_on_disk(tmp_path / "out")) == 20


def test_a_split_is_not_replaced_by_a_split_of_its_own_images(tmp_path):
    split(write_export(tmp_path), tmp_path / "out", transfer="move")
    own = tmp_path / "out" / "annotations" / "smith" / "train.json", tmp_path / "out" / "images" / "smith" / "train"
    with pytest.raises(UserError, match="part of the split of smith that would be replaced"):
        split(own, tmp_path / "out", overwrite=True)
    assert len(images_on_disk(tmp_path / "out")) == 20


def test_annotations_that_a_person_corrected_are_not_replaced(tmp_path):
    export, folder = write_export(tmp_path), tmp_path / "out" / "annotations" / "smith"
    split(export, tmp_path / "out")
    (folder / "val.json").write_text((folder / "val.json").read_text().replace("}", ', "corrected": true}', 1))
    before = (folder / "val.json").read_bytes()
    with pytest.raises(UserError, match=r"val\.json was changed since it was made here, or made by hand"):
        split(export, tmp_path / "out", seed=1, overwrite=True)
    assert (folder / "val.json").read_bytes() == before
    (folder / "val.json").unlink()
    split(export, tmp_path / "out", seed=1, overwrite=True)


def test_a_set_that_lies_where_its_split_goes_is_not_replaced(tmp_path):
    json_file, images = write_export(tmp_path)
    inside = tmp_path / "out" / "annotations" / "smith" / "train.json"
    inside.parent.mkdir(parents=True)
    inside.write_bytes(Path(json_file).read_bytes())
    with pytest.raises(UserError, match="is the input, which stays as it is"):
        split((inside, images), tmp_path / "out", overwrite=True)
    with pytest.raises(UserError, match="made by hand"):
        split((json_file, images), tmp_path / "out", overwrite=True)
    assert inside.read_bytes() == Path(json_file).read_bytes()


@pytest.mark.parametrize("transfer", ["copy", "move"])
def test_a_full_disk_while_copying_leaves_nothing_behind_and_loses_nothing(tmp_path, monkeypatch, transfer):
    export = write_export(tmp_path)
    split(export, tmp_path / "out")
    before = images_on_disk(tmp_path / "out"), read_split(tmp_path / "out")
    copied = []

    def fail_at_the_tenth(source, target):
        copied.append(shutil.copyfile(source, target))
        if len(copied) == 10:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setitem(layout.TRANSFERS, transfer, fail_at_the_tenth)
    with pytest.raises(OSError, match="No space left"):
        split(export, tmp_path / "out", seed=1, transfer=transfer, overwrite=True)
    assert (images_on_disk(tmp_path / "out"), read_split(tmp_path / "out")) == before
    assert len(list(export[1].iterdir())) == 20


@pytest.mark.parametrize("name", ["val.json", "valid", "test"])
def test_a_split_of_which_a_part_can_not_be_replaced_stays(tmp_path, monkeypatch, capsys, name):
    export = write_export(tmp_path)
    split(export, tmp_path / "out")
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    rename = Path.rename

    def held(path, place):  # as a folder that is mounted there, or another user's
        if path.name == name and path.parent.name == "smith":
            raise OSError(errno.EBUSY, "Device or resource busy", str(path), None, str(place))
        return rename(path, place)

    monkeypatch.setattr(Path, "rename", held)
    with pytest.raises(SystemExit) as left:
        run_tool(lambda: split(export, tmp_path / "out", seed=1, overwrite=True))
    assert left.value.code == 2 and re.search(rf"can't use \S*/smith/{name}: Device or", capsys.readouterr().err)
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()} == before


def test_what_a_killed_run_left_is_no_obstacle_and_goes(tmp_path):
    export = write_export(tmp_path)
    for kind in ("images", "annotations"):
        leftover = tmp_path / "out" / kind / "smith" / ".split-unfinished" / "train"
        leftover.mkdir(parents=True)
        (leftover / "half.png").write_bytes(b"pict")
    split(export, tmp_path / "out")
    assert len(images_on_disk(tmp_path / "out")) == 20
    assert not list((tmp_path / "out").rglob(".split-unfinished"))


def test_images_are_linked_symbolically_where_hard_links_are_not_possible(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(layout.os, "link", refuse)
    split(write_export(tmp_path), tmp_path / "out", transfer="link")
    links = [path for path in (tmp_path / "out" / "images").rglob("*.png") if path.is_symlink()]
    assert len(links) == 20
    assert all(path.read_bytes().startswith(b"image") for path in links)


def test_moving_to_another_file_system_copies_before_it_deletes(tmp_path, monkeypatch):
    monkeypatch.setattr(layout.os, "link", lambda *_: (_ for _ in ()).throw(OSError(errno.EXDEV, "cross-device")))
    export = write_export(tmp_path)
    split(export, tmp_path / "out", transfer="move")
    assert len(images_on_disk(tmp_path / "out")) == 20
    assert not list(export[1].iterdir())


def test_missing_images_are_listed_with_what_to_do(tmp_path):
    export = write_export(tmp_path)
    (export[1] / "bag3_1.png").unlink()
    with pytest.raises(UserError, match=r"1 image of 20 not in .* \(bag3_1\.png\)") as caught:
        read_export("smith", *export)
    assert "repair" in caught.value.fix and "--drop-unreadable" in caught.value.fix


def test_the_folder_that_the_names_are_relative_to_is_found_next_door(tmp_path):
    json_file, images = write_export(tmp_path)
    with pytest.raises(UserError) as caught:
        read_export("smith", json_file, tmp_path)
    assert f"they are in {images}" in caught.value.fix


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": []}, "it has no images"),
        (
            {"images": [{"id": 1, "file_name": "a.png"}] * 2, "annotations": []},
            r"1 image id given more than once \(1\)",
        ),
        (
            {"images": [{"id": i, "file_name": n} for i, n in enumerate(("a.png", "./a.png"))], "annotations": []},
            r"1 file name given more than once \(a\.png\)",
        ),
        ({"images": [{"id": 1, "file_name": "../a.png"}], "annotations": []}, "1 file name leading out of"),
        ({"images": [{"id": 1, "file_name": "a\0.png"}], "annotations": []}, "1 image whose file_name is none"),
        ({"images": [{"id": 1, "file_name": ""}], "annotations": []}, "1 image whose file_name is none"),
        ({"categories": [{"id": 1, "name": None}]}, r"1 entry of categories without id or name \(0\)"),
        ({"images": [{"file_name": "a.png"}, "b"]}, r"2 entries of images without id or file_name \(0, 1\)"),
        ({"annotations": [{"id": 5, "image_id": 1, "category_id": 4}]}, r"1 annotation of no image \(5\)"),
        ({"annotations": [{"id": 5, "image_id": 7, "category_id": 5}]}, "of a class that is not declared"),
    ],
)
def test_what_a_split_would_lose_or_have_twice_is_an_error(tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        read_export("smith", *write_export(tmp_path, **changes))


def test_images_may_have_texts_and_large_numbers_for_ids(tmp_path):
    export = write_export(tmp_path, ["a.png", "b.png", "c.png"])
    content = json.loads(export[0].read_text())
    for image, id in zip(content["images"], ("Pa_1", "01", 2**70), strict=True):
        image["id"] = id
    content["annotations"] = [{"id": 1, "image_id": "01", "category_id": content["categories"][0]["id"]}]
    export[0].write_text(json.dumps(content))
    parts = split(export, tmp_path / "out").values()
    assert {image["id"] for part in parts for image in part["images"]} == {"Pa_1", "01", 2**70}
    assert [annotation["image_id"] for part in parts for annotation in part["annotations"]] == ["01"]


@pytest.mark.parametrize(
    ("changes", "fix"),
    [
        ({"images": []}, "export it again"),
        ({"images": [{"file_name": "a.png"}], "annotations": []}, "tools/dataset.py check "),
        ({"images": [{"id": 1, "file_name": "../a.png"}], "annotations": []}, "a folder that holds all of them"),
    ],
)
def test_what_cannot_be_repaired_is_not_sent_to_be_repaired(tmp_path, changes, fix):
    with pytest.raises(UserError) as caught:
        read_export("smith", *write_export(tmp_path, **changes))
    assert fix in caught.value.fix and "dataset.py repair" not in caught.value.fix


def test_the_pattern_that_is_advised_works_when_a_shell_reads_it(tmp_path):
    export = write_export(tmp_path, ["bag1_a.png", "bag1_b.png", "bag2_a.png", "bag3_a.png", "it's one.png"])
    with pytest.raises(UserError) as caught:
        split(export, tmp_path / "out", group_by=r"bag(\d+)_|isn't")
    advised = shlex.split(re.search(r"with (.+) each", caught.value.fix)[1])
    assert advised == [r"bag(\d+)_|isn't|.*"]
    split(export, tmp_path / "out", group_by=advised[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ratios": (0.7, 0.2, 0.2)}, "sum to 1.1, not to 1"),
        ({"ratios": (1.2, -0.2, 0)}, "not all shares"),
        ({"ratios": (float("nan"), 0.5, 0.5)}, "not all shares"),
        ({"ratios": (0.5, 0.5)}, "2 ratios are given"),
        ({"group_by": "("}, "not a regular expression"),
        ({"group_by": "^bag1"}, "does not fit 18 of 20 file names, e.g. bag0_0.png"),
        ({"group_by": "^bag"}, "joins into 1: too few for 3 splits"),
        ({"scanner": "../smith"}, "can't be the name of a scanner"),
    ],
)
def test_wrong_options_are_told_before_anything_is_written(tmp_path, options, message):
    with pytest.raises(UserError, match=re.escape(message)):
        split(write_export(tmp_path), tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_two_scanners_are_split_in_one_call_with_a_table_for_each(tmp_path):
    smith, rapiscan = write_export(tmp_path / "smith"), write_export(tmp_path / "rapiscan", ["a.png", "b.png", "c.png"])
    output = tmp_path / "out"
    done = run("--scanner", "smith", *smith, "--scanner", "rapiscan", *rapiscan, "--output", output, "--seed", 3)
    assert done.returncode == 0, done.stderr
    assert {name: len(part["images"]) for name, part in read_split(output, "smith").items()} == {
        "train": 14,
        "val": 3,
        "test": 3,
    }
    assert len(images_on_disk(output, "rapiscan")) == 3
    for text in ("smith", "rapiscan", "knife", "no gun in val and test: 1 image", "xray_rapiscan_test"):
        assert text in done.stdout
    assert re.search(r"images +14 +70% +3 +15% +3 +15% +20\b", done.stdout)


def test_the_simple_form_splits_one_folder_with_one_json(tmp_path):
    export = write_export(tmp_path)
    done = run(*export, "--scanner", "astrophysics", "--output", tmp_path / "out", "--ratios", 0.7, 0.15, 0.15)
    assert done.returncode == 0, done.stderr
    assert read_split(tmp_path / "out", "astrophysics") == split(export, tmp_path / "other")


def test_a_scanner_without_its_files_and_a_refusal_end_with_exit_code_2(tmp_path):
    export = write_export(tmp_path)
    assert run("--scanner", "smith", export[0], "--output", tmp_path / "out").returncode == 2
    assert run(*export, "--scanner", "a", "--scanner", "b", "--output", tmp_path / "out").returncode == 2
    twice = run("--scanner", "a", *export, "--scanner", "a", *export, "--output", tmp_path / "out")
    assert twice.returncode == 2 and "given twice" in twice.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not SAMPLE.is_dir(), reason="the sample of real scans is not here")
def test_thirteen_real_scans_are_split_9_2_2_and_load(tmp_path):
    pytest.importorskip("detectron2")
    done = run(SAMPLE / "annotations.json", SAMPLE / "images", "--scanner", "sample", "--output", tmp_path)
    assert done.returncode == 0, done.stderr
    sizes = [len(load_datasets(f"xray_sample_{name}", str(tmp_path))) for name in SPLITS]
    assert sizes == [9, 2, 2]
