"""The data sets to look at: named, found by scanner and split, or by JSON file and folder."""

import os
from collections.abc import Collection, Mapping, Sequence

from xray_lazy.data.check import CocoSet, open_sets
from xray_lazy.data.dataset_places import available_datasets, default_root, set_name
from xray_lazy.data.datasets import DetectionDataset, load_datasets
from xray_lazy.errors import UserError


def open_wanted_sets(
    arguments: Sequence[str],
    root: str | None = None,
    scanners: Collection[str] = (),
    splits: Collection[str] = (),
) -> list[CocoSet]:
    """Read the files of the wanted sets as they are.

    Args:
        arguments: names, and pairs of a JSON file and its folder; none means all sets under `root`.
        root: the folder of the named sets; default `default_root()`.
        scanners, splits: only sets of these; none means all.

    Raises:
        UserError: a set is missing or not COCO, or none is left.
    """
    if not arguments:
        known = available_datasets(root)
        arguments = [name for name in known if _is_of(name, scanners, splits)]
        if not arguments:
            wanted = " and ".join(" or ".join(names) for names in (scanners, splits) if names)
            found = (
                f"there are {', '.join(known)}" if known else "there are none at all; name a JSON file and its folder"
            )
            raise UserError(
                f"under {root or default_root()} there is no data set {('of ' + wanted) if wanted else ''}", found
            )
        return open_sets(arguments, root)
    sets = [one for one in open_sets(arguments, root) if _is_of(one.name, scanners, splits)]
    if not sets:
        raise UserError("none of the data sets is of the wanted scanner and split", "leave --scanner and --split away")
    return sets


def load_side_by_side(sets: Sequence[CocoSet]) -> list[DetectionDataset]:
    """The sets as detectron2's dataset dicts, with one list of classes for all of them.

    Unlike `load_datasets`, which joins sets for training, it keeps images' ids and takes sets of different classes.
    """
    loaded = [load_datasets(reference(one)) for one in sets]
    class_names = list(dict.fromkeys(name for dataset in loaded for name in dataset.class_names))
    return [_with_classes(dataset, class_names) for dataset in loaded]


def reference(one: CocoSet) -> dict:
    """The set as a config's `dataset.names` takes it."""
    return {"json_file": str(one.json_file), "image_root": str(one.images_dir), "name": short_name(one)}


def short_name(one: CocoSet) -> str:
    """A set's name; of one that is given by its file, the file's without its folder."""
    if one.json_file is not None and (os.sep in one.name or one.name.endswith(".json")):
        return one.json_file.stem
    return one.name


def scanner_and_split(name: str) -> tuple[str, str]:
    """`("smith", "val")` of `xray_smith_val`; of any other name itself and an empty split."""
    parts = set_name(name)
    return (parts.scanner, parts.split) if parts else (name, "")


def _is_of(name: str, scanners: Collection[str], splits: Collection[str]) -> bool:
    scanner, split = scanner_and_split(name)
    return (not scanners or scanner in scanners) and (not splits or split in splits)


def _with_classes(dataset: DetectionDataset, class_names: Sequence[str]) -> DetectionDataset:
    index = [class_names.index(name) for name in dataset.class_names]
    records = [{**record, "annotations": [_moved(a, index) for a in record["annotations"]]} for record in dataset]
    ids = [dataset.category_ids[dataset.class_names.index(n)] if n in dataset.class_names else -1 for n in class_names]
    return DetectionDataset(records, dataset.name, class_names, ids, dataset.json_files)


def _moved(annotation: Mapping, index: Sequence[int]) -> dict:
    return {**annotation, "category_id": index[annotation["category_id"]]}
