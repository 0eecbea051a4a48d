"""Videos, frame by frame: read by OpenCV, and written as MP4 or WebM, whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from xray_lazy.errors import RunFailure, UserError
from xray_lazy.utils.results_place import sole_maker

# OpenCV's reader tells of damaged files on stderr, without their name; the errors below say more.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

# of videos that don't tell
USUAL_RATE = 25.0

# Others don't store the number of their frames, which is then worked out of their length and rate.
COUNTING = frozenset({".mp4", ".m4v", ".mov", ".avi"})

# By suffix. Browsers play VP8, and not MPEG-4, which is written five times as fast; OpenCV's packages have no H.264.
CODECS = {".mp4": "mp4v", ".webm": "VP80"}


@dataclass(frozen=True)
class VideoFacts:
    """Of a file's header. `frames` is 0 where it does not tell, and only nearly right in some formats."""

    width: int
    height: int
    fps: float
    frames: int


class Video:
    """The frames of a video file as BGR (H, W, 3) uint8.

    Attributes:
        missing_frames: how many fewer came than the header says, known when all have been read; 0 where the
            difference may be one of rounding.

    Raises:
        UserError: it can't be read.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = Path(path)
        # a pipe would be waited for
        self._capture = cv2.VideoCapture(str(path)) if self.path.is_file() else cv2.VideoCapture()
        read, self._first = self._capture.read() if self._capture.isOpened() else (False, None)
        if not read:
            raise UserError(f"video {path} can't be read", "convert it, for example with ffmpeg, to MP4")
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        fps = fps if 0 < fps < 1000 else USUAL_RATE
        height, width = self._first.shape[:2]
        self.missing_frames = 0
        self.facts = VideoFacts(width, height, fps, max(0, int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))))

    def __iter__(self) -> Iterator[np.ndarray]:
        """All frames, once."""
        frame = self._first
        read = frame is not None
        self._first, count = None, 0
        while read:
            yield frame
            count += 1
            read, frame = self._capture.read()
        self._capture.release()
        missing = self.facts.frames - count
        rounding = 0 if self.path.suffix.lower() in COUNTING else max(1, round(0.02 * self.facts.frames))
        self.missing_frames = missing if missing > rounding else 0


class VideoNotWritten(RunFailure):
    """The disk did not take all of a video: no fault of the input."""


class VideoFile:
    """Takes frames of one size, BGR (H, W, 3) uint8; see `writing_video`. OpenCV cuts off an odd last row or column."""

    def __init__(self, path: Path, fps: float) -> None:
        self._path, self._fps = path, fps
        self._writer: cv2.VideoWriter | None = None
        self._count = 0

    def write(self, frame: np.ndarray) -> None:
        """Raises: RunFailure: this OpenCV can't write such a video, or not there."""
        if self._writer is None:
            code = cv2.VideoWriter_fourcc(*CODECS[self._path.suffix])
            self._writer = cv2.VideoWriter(str(self._path), code, self._fps, frame.shape[1::-1])
            if not self._writer.isOpened():
                raise RunFailure(f"{self._path.parent} can't take a {self._path.suffix} video by this OpenCV", "")
        self._writer.write(frame)
        self._count += 1

    def close(self) -> None:
        if self._writer is not None:
            self._writer.release()

    def check(self) -> None:
        """Raises: VideoNotWritten: not all of it was written, of which OpenCV says nothing."""
        read = cv2.VideoCapture(str(self._path))
        least = self._count if self._path.suffix in COUNTING else 0
        is_whole = read.isOpened() and read.get(cv2.CAP_PROP_FRAME_COUNT) >= least
        read.release()
        if not is_whole:
            raise VideoNotWritten(f"the video {self._path.name} was not written to its end", "is the disk full?")


@contextmanager
def writing_video(path: Path, fps: float) -> Iterator[VideoFile]:
    """A video of one of `CODECS` that takes the name `path` only when the block ends without an error."""
    # OpenCV writes by name, and chooses the container by its suffix
    with sole_maker(path) as folder:
        video = VideoFile(folder / path.name, fps)
        try:
            yield video
        finally:
            video.close()
        video.check()
        os.replace(folder / path.name, path)
