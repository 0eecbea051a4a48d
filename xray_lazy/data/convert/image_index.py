"""Find the image of a label file: the same place and name, in a tree of its own or the same one."""

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath, PureWindowsPath

from xray_lazy.data.image_files.image_file import IMAGE_SUFFIXES

# Words in the names of folders that tell images from labels: train/images/1.jpg and train/labels/1.txt belong
# together, and so do train/train_image/1.jpg and train/train_annotation/1.txt.
_IMAGE_WORDS = frozenset({"image", "images", "img", "imgs", "jpegimage", "jpegimages", "picture", "pictures"})
_LABEL_WORDS = frozenset({"annotation", "annotations", "label", "labels", "json", "txt", "xml"})
_WORD_ENDS = re.compile(r"[\W_]+")


def files_below(folder: Path) -> Iterator[Path]:
    """All files, relative to `folder`, sorted; hidden ones are left out."""
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += (Path(parent, name).relative_to(folder) for name in names if not name.startswith("."))
    return iter(sorted(found, key=lambda path: path.parts))


class ImageIndex:
    """The images below a folder.

    Attributes:
        folder: where `file_name` starts from.
        names: the images' paths relative to it.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.names: list[Path] = []
        self._by_place: dict[tuple[str, ...], list[Path]] = defaultdict(list)
        self._by_stem: dict[str, list[Path]] = defaultdict(list)
        for path in files_below(folder):
            if path.suffix.lower() in IMAGE_SUFFIXES:
                self.add(path)

    def add(self, name: Path) -> None:
        """Take in one more image, relative to the folder."""
        self.names.append(name)
        place = _place(name)
        self._by_place[place].append(name)
        self._by_stem[place[-1]].append(name)

    def find(self, label: PurePath, picture_name: str | None = None, match_by: str | None = None) -> list[Path]:
        """The images that may be meant by a label: one, if all is well.

        Args:
            label: the label file, relative to the folder of all labels.
            picture_name: what the label says, a path of another machine perhaps: only its last part counts.
            match_by: which of the two counts where they name different images, "name" or "stated"; default neither.
        """
        stated = PureWindowsPath(picture_name or "").name or label.name  # it splits at \\ and at /
        by_name, by_stated = self._at(label), self._at(label.with_name(stated))
        if match_by is None and by_name and by_stated and by_name != by_stated:
            return [*by_name, *by_stated]
        found = (by_stated or by_name) if match_by == "stated" else (by_name or by_stated)
        exact = [name for name in found if _composed(name.name) == _composed(stated)]
        return exact or found

    def named(self, name: str) -> Path | None:
        """The image at this path, or the last part of it, below the folder, else the only one of this name.

        The suffix may be left out.
        """
        path = PurePath(name)
        suffix = path.suffix.lower() if path.suffix.lower() in IMAGE_SUFFIXES else ""
        found = self._by_stem.get(_composed(path.stem if suffix else path.name), [])
        if here := [one for one in found if one.parts == path.parts[-len(one.parts) :]]:
            return max(here, key=lambda one: len(one.parts))
        found = [one for one in found if suffix in ("", one.suffix.lower())]
        return found[0] if len(found) == 1 else None

    def below(self, folder: str) -> list[Path]:
        """The images in one of its folders, and in those inside."""
        return [name for name in self.names if name.is_relative_to(folder)]

    def _at(self, path: PurePath) -> list[Path]:
        """The images at a label's place; where there are none, those of its name in a folder above or below."""
        *folders, stem = place = _place(path)
        near = (name for name in self._by_stem.get(stem, ()) if _are_nested(folders, _place(name)[:-1]))
        return self._by_place.get(place) or list(near)


def is_image_folder(name: str) -> bool:
    """Whether a folder's name says that images are in it, and nothing else."""
    return _words(name) <= _IMAGE_WORDS


def is_label_folder(name: str) -> bool:
    """Whether a folder's name has a word for labels."""
    return not _words(name).isdisjoint(_LABEL_WORDS)


def _words(name: str) -> set[str]:
    return set(_WORD_ENDS.split(name.lower()))


def _are_nested(folders: Sequence[str], others: Sequence[str]) -> bool:
    return set(folders) <= set(others) or set(folders) >= set(others)


def _place(path: PurePath) -> tuple[str, ...]:
    """What an image and its label have in common."""
    folders = filter(None, (_without_role(part) for part in path.parts[:-1]))
    return tuple(_composed(part) for part in (*folders, path.stem))


def _without_role(folder: str) -> str:
    """A folder's name without the words that tell images from labels; itself where it has none."""
    words = _WORD_ENDS.split(folder)
    kept = [word for word in words if word.lower() not in _IMAGE_WORDS | _LABEL_WORDS]
    return folder if len(kept) == len(words) else "_".join(kept)


def _composed(name: str) -> str:
    # macOS writes an accent as a character of its own, other systems as one with its letter
    return unicodedata.normalize("NFC", name)
