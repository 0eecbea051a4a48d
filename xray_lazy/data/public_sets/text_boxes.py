"""The OPIXray family: a text file for each image, a line for each box, and lists of names for subsets."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from xray_lazy.data.convert import opixray
from xray_lazy.data.convert.image_index import ImageIndex
from xray_lazy.data.convert.label import Instance
from xray_lazy.data.image_lists import read_image_list
from xray_lazy.data.public_sets.declaration import Notes, Scan, files_by_stem, require_labels


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
            labels, files = files_by_stem(folder / one.labels, ".txt"), index.below(one.images)
            labelled = [file.stem for file in files if file.stem in labels]
            require_labels(labelled, len(files), one.images, folder / one.labels)
            damaged = set()
            for file in files:
                if file.stem in scans:
                    notes.add("image with the name of another but for its ending: left out", file)
                    continue
                if file.stem not in labels:
                    notes.add("image without a label, which is an empty bag", file)
                    boxes = []
                else:
                    boxes = read_boxes(labels[file.stem], classes, notes)
                if boxes is None:
                    notes.add("label of which no line can be read: left out with its image", file)
                    damaged.add(file.stem)
                    continue
                scans[file.stem] = Scan(file, tuple(boxes), file.stem)
            for subset, name in {one.subset: one.list_file, **(one.others or {})}.items():
                file = folder / name if name else None
                if file and file.is_file():
                    subsets[subset] = _listed(file, scans, damaged, notes)
                elif file is None or subset == one.subset:
                    subsets[subset] = list(scans.values())
                else:
                    notes.add(f"no list of {subset}, which is left out", file)
        return subsets

    return read


def _listed(file: Path, scans: Mapping[str, Scan], damaged: Collection[str], notes: Notes) -> list[Scan]:
    names = read_image_list(file)
    for name in names:
        if name not in scans and name not in damaged:
            notes.add(f"name in {file.name} without an image, which is left out", name)
    return [scans[name] for name in names if name in scans]


def read_boxes(file: Path, classes: tuple[str, ...], notes: Notes) -> list[Instance] | None:
    """The boxes of a text file, which is that of an empty bag where it has no lines; None where no line is a box."""
    found, lines, read = [], 0, 0
    for line, instance in opixray.read_lines(file):
        lines += 1
        read += instance is not None
        if instance is None:
            notes.add("line that is no `name class x1 y1 x2 y2`, which is left out", f"{file.name}: {line}")
        elif classes and instance.class_name not in classes:
            notes.add(f"box of class {instance.class_name}, which is none of the set's: left out", file.name)
        else:
            found.append(instance)
    return found if read or not lines else None
