"""Videos, read and written."""

import os

import cv2
import numpy as np
import pytest

from xray_lazy.errors import RunFailure, UserError
from xray_lazy.prediction.videos import Video, writing_video


def frames(count=5, size=(64, 48)):
    ramp = np.linspace(0, 200, size[0], dtype=np.uint8)
    return [np.dstack([np.tile(ramp, (size[1], 1))] * 3) // 2 + 7 * number for number in range(count)]


@pytest.mark.parametrize("name", ["belt.mp4", "belt.webm"])
@pytest.mark.parametrize("size", [(64, 48), (701, 403)])
def test_a_video_that_is_written_can_be_read(tmp_path, size, name):
    path = tmp_path / "new" / name
    with writing_video(path, 12.5) as file:
        for frame in frames(size=size):
            file.write(frame)
        assert not path.exists()
    video = Video(path)
    assert video.facts.fps == pytest.approx(12.5) and video.facts.frames == 5
    width, height = (side // 2 * 2 for side in size)
    assert (video.facts.width, video.facts.height) == (width, height)
    for frame, expected in zip(list(video), frames(size=size), strict=True):
        assert np.abs(frame.astype(int) - expected[:height, :width]).mean() < 8
    assert [entry.name for entry in path.parent.iterdir()] == [name]


def test_a_failure_leaves_the_old_video(tmp_path):
    path = tmp_path / "belt.mp4"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), writing_video(path, 10) as file:
        file.write(frames()[0])
        _ = 1 / 0
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_video_that_is_cut_off_gives_what_is_there(tmp_path):
    path = tmp_path / "belt.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (640, 480))
    for frame in frames(20, (640, 480)):
        writer.write(frame)
    writer.release()
    whole = Video(path)
    assert len(list(whole)) == 20 and whole.missing_frames == 0
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    video = Video(path)
    count = len(list(video))
    assert 0 < count < 20 and video.missing_frames == 20 - count


def test_what_is_no_video_is_an_error(tmp_path):
    (tmp_path / "belt.mp4").write_text("no video")
    for name in ("belt.mp4", "gone.mp4"):
        with pytest.raises(UserError, match=name):
            Video(tmp_path / name)


def test_a_video_that_the_disk_cuts_off_does_not_get_its_name(tmp_path):
    with (
        pytest.raises(RunFailure, match="was not written to its end"),
        writing_video(tmp_path / "belt.mp4", 25) as file,
    ):
        for frame in frames():
            file.write(frame)
        file.close()
        (written,) = tmp_path.rglob("belt.mp4")
        os.truncate(written, written.stat().st_size // 2)
        file.close()
    assert not list(tmp_path.iterdir())
