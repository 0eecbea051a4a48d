"""What is named as input, as images and videos."""

import errno
import json
import os
from pathlib import Path, PurePosixPath

import pytest

from tests.data.coco_sets import write_set
from xray_lazy.data.image_files.image_bytes import UnreadableImage
from xray_lazy.data.image_files.image_file import read_image
from xray_lazy.data.image_reader import ImageReader
from xray_lazy.errors import UserError
from xray_lazy.prediction.input_files import InputFile, find_inputs, without_further_files
from xray_lazy.prediction.videos import Video


@pytest.fixture
def scans(tmp_path):
    for name in ("a.png", "belt.MP4", "deep/b.JPG", "deep/a.png", "deep/deeper/c.tif", "notes.txt"):
        path = tmp_path / "scans" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return tmp_path / "scans"


def names(entries):
    return [str(entry.name) for entry in entries]


def test_a_folder_gives_images_and_videos_below_it_sorted_under_their_relative_names(scans):
    inputs = find_inputs([str(scans)])
    assert names(inputs.images) == ["a.png", "deep/a.png", "deep/b.JPG", "deep/deeper/c.tif"]
    assert names(inputs.videos) == ["belt.MP4"]


def test_a_link_to_itself_is_an_input_that_is_skipped_as_unreadable(scans, tmp_path):
    (scans / "loop.png").symlink_to("loop.png")
    assert "loop.png" in names(find_inputs([str(scans)], output=tmp_path / "results").images)
    assert names(find_inputs([str(scans / "loop.png")], output=tmp_path / "results").images) == ["loop.png"]


def test_a_pattern_gives_names_below_its_fixed_part(scans):
    assert names(find_inputs([f"{scans}/**/*.png"]).images) == ["a.png", "deep/a.png"]
    assert names(find_inputs([f"{scans}/deep/?.*"]).images) == ["a.png", "b.JPG"]


def test_a_file_comes_once_and_other_files_of_its_name_are_numbered(scans):
    words = [str(scans / "a.png"), str(scans / "deep" / "a.png"), str(scans), os.path.relpath(scans / "a.png")]
    images = find_inputs(words).images
    assert [str(image.result) for image in images[:2]] == ["a.png", "a_2.png"] and len(images) == 4
    assert names(images)[:2] == ["a.png", str((scans / "deep" / "a.png").resolve())]


def test_files_that_differ_in_their_suffix_keep_their_names_and_have_results_of_their_own(scans):
    for name in ("bag.bmp", "bag.png", "bag.tiff", "bag_2.png"):
        (scans / name).write_bytes(b"")
    images = find_inputs([f"{scans}/bag*"]).images
    assert names(images) == ["bag.bmp", "bag.png", "bag.tiff", "bag_2.png"]
    assert len({image.result.with_suffix("") for image in images}) == 4


def test_results_of_an_earlier_call_are_no_inputs(scans):
    inputs = find_inputs([str(scans)], output=scans / "deep")
    assert names(inputs.images) == ["a.png"]
    assert names(find_inputs([str(scans / "deep" / "b.JPG")], output=scans / "deep").images) == ["b.JPG"]
    with pytest.raises(UserError, match="has no images"):
        find_inputs([str(scans / "deep")], output=scans)


def test_a_coco_file_gives_its_images_with_their_ids(tmp_path):
    write_set(tmp_path, count=2)
    json_file = tmp_path / "annotations.json"
    inputs = find_inputs([str(json_file)])
    assert [(p.path, p.image_id) for p in inputs.images] == [
        (tmp_path / "images" / f"bag_{number}.png", 10 + number) for number in range(2)
    ]
    assert inputs.coco_files == [json_file]
    (tmp_path / "elsewhere").mkdir()
    moved = find_inputs([str(json_file)], image_root=tmp_path / "elsewhere").images
    assert moved[0].path == tmp_path / "elsewhere" / "bag_0.png"


def test_the_name_of_a_data_set_gives_its_images(tmp_path, monkeypatch):
    (tmp_path / "images" / "own" / "valid").mkdir(parents=True)
    (tmp_path / "annotations" / "own").mkdir(parents=True)
    content = {"images": [{"id": 3, "file_name": "x/y.png"}], "annotations": [], "categories": []}
    (tmp_path / "annotations" / "own" / "val.json").write_text(json.dumps(content))
    monkeypatch.setenv("XRAY_DATASETS", str(tmp_path))
    (image,) = find_inputs(["xray_own_val"]).images
    assert image.path == tmp_path / "images" / "own" / "valid" / "x" / "y.png" and image.image_id == 3


def test_names_in_a_coco_file_do_not_lead_out_of_the_output_folder(tmp_path):
    content = {"images": [{"id": 1, "file_name": "../../a.png"}, {"id": 2, "file_name": "/etc/b.png"}]}
    (tmp_path / "set.json").write_text(json.dumps(content | {"annotations": [], "categories": []}))
    images = find_inputs([str(tmp_path / "set.json")]).images
    assert [str(image.result) for image in images] == ["a.png", "etc/b.png"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "no input is given"),
        (["SCANS/gone.png"], "there is no .*gone.png"),
        (["SCANS/notes.txt"], "neither an image nor a video"),
        (["SCANS/*.bmp"], "is named like"),
        (["EMPTY"], "has no images and no videos"),
        (["EMPTY/gone.json"], "there is no annotation file"),
        (["xray_nowhere_val"], "xray_nowhere_val"),
    ],
)
def test_what_names_nothing_is_an_error(scans, tmp_path, words, message):
    (tmp_path / "empty").mkdir()
    words = [word.replace("SCANS", str(scans)).replace("EMPTY", str(tmp_path / "empty")) for word in words]
    with pytest.raises(UserError, match=message):
        find_inputs(words)


def test_a_coco_file_of_images_alone_is_an_input(tmp_path):
    write_set(tmp_path, count=2)
    json_file = tmp_path / "annotations.json"
    content = json.loads(json_file.read_text())
    json_file.write_text(json.dumps({"images": content["images"], "categories": content["categories"]}))
    assert [p.image_id for p in find_inputs([str(json_file)]).images] == [10, 11]


def test_a_coco_file_that_is_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "set.json")
    with pytest.raises(UserError, match=r"set.json is a pipe or a device, and a set is read several times"):
        find_inputs([str(tmp_path / "set.json")])


def test_what_is_read_together_with_an_image_is_no_image_of_its_own():
    """The name of the further file has not what a path to one has, which is no fault of what was given."""
    reader = ImageReader(2, [0, 65535], more_files=[["_low", "_high"]])
    low, high = (InputFile(Path(name), PurePosixPath(name)) for name in ("bag_low.png", "bag_high.png"))
    assert without_further_files([high, low], reader) == [low]


def test_a_folder_that_cannot_be_looked_into_is_told(scans, monkeypatch):
    """Rights don't keep root out: the system's refusal is the one that others get."""
    listing = os.scandir

    def refusing(place):
        if os.fspath(place).rstrip("/").endswith("deeper"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(place))
        return listing(place)

    monkeypatch.setattr(os, "scandir", refusing)
    inputs = find_inputs([str(scans)])
    assert names(inputs.images) == ["a.png", "deep/a.png", "deep/b.JPG"]
    assert [f"{scans}/deep/deeper can't be read" in problem.message for problem in inputs.unreadable] == [True]
    with pytest.raises(UserError, match="can't be read: Permission denied"):
        find_inputs([str(scans / "deep" / "deeper")])
    for pattern in (f"{scans}/**/*.*", f"{scans}/**"):
        inputs = find_inputs([pattern])
        assert names(inputs.images) == ["a.png", "deep/a.png", "deep/b.JPG"]
        assert [f"{scans}/deep/deeper/ can't be read" in problem.message for problem in inputs.unreadable] == [True]
    with pytest.raises(UserError, match="can't be read: Permission denied"):
        find_inputs([f"{scans}/*/*/*"])


def test_what_only_has_an_image_s_name_is_an_input_that_is_told_and_not_waited_for(scans):
    """A link to a disk that is gone, and pipes, among the images of a folder."""
    (scans / "gone.jpg").symlink_to("nowhere.jpg")
    os.mkfifo(scans / "pipe.jpg")
    os.mkfifo(scans / "pipe.mp4")
    (scans / "folder.jpg").mkdir()
    inputs = find_inputs([str(scans)])
    assert {"gone.jpg", "pipe.jpg"} <= set(names(inputs.images)) and "pipe.mp4" in names(inputs.videos)
    assert "folder.jpg" not in names(inputs.images)
    assert names(find_inputs([str(scans / "gone.jpg")]).images) == ["gone.jpg"]
    for name in ("gone.jpg", "pipe.jpg"):
        with pytest.raises(UnreadableImage):
            read_image(scans / name)
    with pytest.raises(UserError, match="can't be read"):
        Video(scans / "pipe.mp4")
