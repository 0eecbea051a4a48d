"""Files that came by HTTP, as scans in a folder of their own: named without steps out of it, and looked at before they
are decoded."""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from xray_lazy.data.image_files.image_bytes import UnreadableImage
from xray_lazy.data.image_files.image_file import IMAGE_SUFFIXES, image_size
from xray_lazy.data.image_reader import Reader
from xray_lazy.errors import UserError
from xray_lazy.utils.wording import printable

DEEPEST, LONGEST = 8, 100  # folders of a name that are kept, and characters of each part


class NotSentAlong(UnreadableImage):
    """The file of an image that is read with another one is not in the request."""

    advice = "send all files of a scan in one request"


@dataclass(frozen=True)
class ReceivedScan:
    """An image of a request.

    Attributes:
        name: as the client calls it.
        path: of its file in the request's folder.
        files: all of its files, with those that are read with it.
        size: (width, height), pixels; None where there is a problem.
        problem: why it is not to be decoded.
    """

    name: PurePosixPath
    path: Path
    files: tuple[Path, ...]
    size: tuple[int, int] | None = None
    problem: UserError | None = None

    @property
    def root(self) -> Path:
        """The request's folder, below which the file has its name."""
        return self.path.parents[len(self.name.parts) - 1]


@contextmanager
def received(
    files: Sequence[tuple[str | None, BinaryIO]], reader: Reader, most_pixels: float, within: Path
) -> Iterator[list[ReceivedScan]]:
    """The scans that the files of a request are, in their order, until the block ends.

    Args:
        files: each one's name and content.
        reader: tells which files are read with another one, and are no scans of their own.
        most_pixels: times channels, of one file.
        within: a folder for the request's own, which is gone after the block.

    Raises:
        UserError: a file has no name, or another one's.
    """
    with tempfile.TemporaryDirectory(dir=within) as folder:
        paths = {}
        for given, content in files:
            name = safe_name(given or "")
            if not name.parts or name in paths:
                raise UserError(
                    f"two files are called {name}" if name.parts else "a file has no name", "name each file by itself"
                )
            paths[name] = Path(folder) / name
            try:
                paths[name].parent.mkdir(parents=True, exist_ok=True)
                with open(paths[name], "xb") as stream:
                    shutil.copyfileobj(content, stream)
            except (FileExistsError, IsADirectoryError, NotADirectoryError):
                raise UserError(f"{name} is a file and a folder of others", "name each file by itself") from None
        yield _scans(paths, reader, most_pixels)


def safe_name(given: str) -> PurePosixPath:
    """A client's name of a file, as one below a folder: without steps, roots and what no name can hold."""
    parts = printable(given.replace("\\", "/")).split("/")
    kept = [part.strip() for part in parts if part.strip() not in ("", ".", "..")][-DEEPEST:]
    return PurePosixPath(*(part[-LONGEST:] for part in kept))


def _scans(paths: dict[PurePosixPath, Path], reader: Reader, most_pixels: float) -> list[ReceivedScan]:
    groups = {}
    for name, path in paths.items():
        groups[name] = (path,)
        with suppress(UserError):  # of what is a further file itself
            groups[name] = tuple(reader.files(path))
    own, further = set(paths.values()), {file for files in groups.values() for file in files[1:]}
    scans = []
    for name, files in groups.items():
        if paths[name] in further:
            continue
        try:
            missing = [file for file in files if file not in own]
            if missing:  # also any that would lie elsewhere: nothing but what was sent is opened
                raise NotSentAlong(missing[0].name, f"was not sent along with {name}, which it belongs to")
            sizes = [_checked_size(file, most_pixels) for file in files]
            scans.append(ReceivedScan(name, paths[name], files, sizes[0]))
        except UserError as problem:
            scans.append(ReceivedScan(name, paths[name], files, problem=problem))
    return scans


def _checked_size(path: Path, most_pixels: float) -> tuple[int, int]:
    """(width, height) by the header: a few kB may hold the pixels of a wall."""
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        raise UnreadableImage(path, "is no image; known are " + " ".join(sorted(IMAGE_SUFFIXES)))
    return image_size(path, most_pixels)
