"""The OPIXray family: a text file for each image, a line for each box, and lists of names for subsets."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from xray_lazy.data.convert import opixray
from xray_lazy.data.convert.image_index import ImageIndex
from xray_lazy.data.convert.label import Instance
from xray_lazy.data.image_lists import read_image_list
from xray_lazy.data.public_sets.declaration import Notes, Scan


@dataclass(frozen=True)
class TextBoxes:
    """Images, their text files, and the subsets of them.

    Attributes:
        images, labels: folders.
        subset: of all of the images, or of those of `list_file` where that is there.
        list_file: one name per line, without a suffix.
        others: further lists, by the names of their subsets; None for all images once more.
    """

    images: str
    labels: str
    subset: str
    list_file: str | None = None
    others: Mapping[str, str | None] | None = None


def text_boxes(*folders: TextBoxes) -> Callable[[Path, tuple[str, ...], Notes], dict[str, list[Scan]]]:
    """A reader of such folders."""

    def read(folder: Path, classes: tuple[str, ...], notes: Notes) -> dict[str, list[Scan]]:
        index, subsets = ImageIndex(folder), {}
        for one in folders:
            scans: dict[str, Scan] = {}
            for file in index.below(one.images):
                if file.stem in scans:
                    notes.add("image with the name of another but for its ending: left out", file)
                    continue
                boxes = read_boxes(folder / one.labels / f"{file.stem}.txt", classes, notes)
                scans[file.stem] = Scan(file, tuple(boxes), file.stem)
            for subset, name in {one.subset: one.list_file, **(one.others or {})}.items():
                file = folder / name if name else None
                if file and file.is_file():
                    subsets[subset] = _listed(file, scans, notes)
                elif file is None or subset == one.subset:
                    subsets[subset] = list(scans.values())
                else:
                    notes.add(f"no list of {subset}, which is left out", file)
        return subsets

    return read


def _listed(file: Path, scans: Mapping[str, Scan], notes: Notes) -> list[Scan]:
    names = read_image_list(file)
    for name in names:
        if name not in scans:
            notes.add(f"name in {file.name} without an image, which is left out", name)
    return [scans[name] for name in names if name in scans]


def read_boxes(file: Path, classes: tuple[str, ...], notes: Notes) -> list[Instance]:
    """The boxes of a text file; a bag is empty where there is none, or nothing in it."""
    found = []
    for line, instance in opixray.read_lines(file) if file.is_file() else ():
        if instance is None:
            notes.add("line that is no `name class x1 y1 x2 y2`, which is left out", f"{file.name}: {line}")
        elif classes and instance.class_name not in classes:
            notes.add(f"box of class {instance.class_name}, which is none of the set's: left out", file.name)
        else:
            found.append(instance)
    return found
