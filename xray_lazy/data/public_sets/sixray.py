"""SIXray: Pascal VOC files of the bags with items, and CSV files that tell the empty ones and the subsets."""

from pathlib import Path

from xray_lazy.data.convert import voc
from xray_lazy.data.convert.image_index import ImageIndex
from xray_lazy.data.convert.label import Instance, Reading
from xray_lazy.data.image_lists import read_image_table
from xray_lazy.data.public_sets.declaration import Notes, Scan, files_by_stem, require_labels


def read_sixray(folder: Path, classes: tuple[str, ...], notes: Notes) -> dict[str, list[Scan]]:
    """Scans of `train_10`, `test_10`, `train_100`, ...: as many empty bags for each bag with items."""
    index = ImageIndex(folder)
    labels = files_by_stem(folder / "Annotation", ".xml")
    require_labels(labels, len(index.names), str(folder), folder / "Annotation")
    seen: dict[str, tuple[Instance, ...] | None] = {}
    subsets = {}
    for table in sorted(folder.glob("ImageSet/*/*.csv")):
        subsets[f"{table.stem}_{table.parent.name}"] = scans = []
        for name, told in read_image_table(table, needs_header=True):
            file = index.named(name) if name else None
            if file is None:
                notes.add(f"image of {table.parent.name}/{table.name} that is not there: left out", name)
                continue
            if name not in seen:
                seen[name] = _items(labels.get(name), classes, notes)
            items = seen[name]
            if items is None:
                continue
            if lacking := told.intersection(classes) - {instance.class_name for instance in items}:
                notes.add("bag with items that no box shows: left out", f"{name}: {', '.join(sorted(lacking))}")
            else:
                scans.append(Scan(file, items, name))
    return subsets


def _items(path: Path | None, classes: tuple[str, ...], notes: Notes) -> tuple[Instance, ...] | None:
    """The boxes of a bag, which is an empty one where it has no file; None where the file has none that can be read."""
    if path is None:
        return ()
    # pixels are counted from 0 there, with three decimals
    reading = Reading(zero_based=True)
    label = voc.open_label(path, reading)
    for fault in reading.faults:
        notes.add("object that can't be read: left out", fault)
    instances = label.instances((0, 0)) if label else []
    if reading.faults and not instances:
        notes.add("label of which nothing can be read: left out with its image", path.name)
        return None
    for instance in instances:
        if instance.class_name not in classes:
            notes.add(f"box of class {instance.class_name}, which is none of the set's: left out", path.name)
    return tuple(instance for instance in instances if instance.class_name in classes)
