"""Find the picture of a label file: the same place and name, in a tree of its own or the same one."""

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path, PurePath, PureWindowsPath

from xray_lazy.data.picture_file import PICTURE_SUFFIXES

# Folders that tell pictures from labels; train/images/1.jpg and train/labels/1.txt belong together.
ROLE_FOLDERS = frozenset({"annotations", "images", "jpegimages", "labels"})


def files_below(folder: Path) -> Iterator[Path]:
    """All files, relative to `folder`, sorted; hidden ones are left out."""
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += (Path(parent, name).relative_to(folder) for name in names if not name.startswith("."))
    return iter(sorted(found, key=lambda path: path.parts))


class PictureIndex:
    """The pictures below a folder.

    Attributes:
        folder: where `file_name` starts from.
        names: the pictures' paths relative to it.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.names: list[Path] = []
        self._by_place: dict[tuple[str, ...], list[Path]] = defaultdict(list)
        for path in files_below(folder):
            if path.suffix.lower() in PICTURE_SUFFIXES:
                self.add(path)

    def add(self, name: Path) -> None:
        """Take in one more picture, relative to the folder."""
        self.names.append(name)
        self._by_place[_place(name)].append(name)

    def find(self, label: PurePath, picture_name: str | None = None) -> list[Path]:
        """The pictures that may be meant by a label: one, if all is well.

        Args:
            label: the label file, relative to the folder of all labels.
            picture_name: what the label says, a path of another machine perhaps: only its last part counts.
        """
        stated = PureWindowsPath(picture_name or "").name or label.name  # it splits at \\ and at /
        found = self._by_place.get(_place(label)) or self._by_place.get(_place(label.with_name(stated)), [])
        exact = [name for name in found if _composed(name.name) == _composed(stated)]
        return exact or found


def _place(path: PurePath) -> tuple[str, ...]:
    """What a picture and its label have in common."""
    folders = (part for part in path.parts[:-1] if part.lower() not in ROLE_FOLDERS)
    return tuple(_composed(part) for part in (*folders, path.stem))


def _composed(name: str) -> str:
    # macOS writes an accent as a character of its own, other systems as one with its letter
    return unicodedata.normalize("NFC", name)
