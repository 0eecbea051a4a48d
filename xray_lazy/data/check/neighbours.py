"""What only shows beside something else: the same image twice, leaks between sets, other classes, unlisted files."""

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path

from xray_lazy.data.check.coco_set import CocoSet
from xray_lazy.data.check.entries import identity
from xray_lazy.data.check.image_facts import ImageFacts
from xray_lazy.data.check.images import image_path
from xray_lazy.data.check.near_duplicates import same_scans
from xray_lazy.data.check.report import Finding
from xray_lazy.data.dataset_places import LINKED_IMAGES
from xray_lazy.data.image_files.image_file import IMAGE_SUFFIXES
from xray_lazy.utils.wording import counted

Facts = Mapping[Path, ImageFacts]


def duplicates_within(one: CocoSet, facts: Facts) -> list[Finding]:
    """Files of one set with the same pixels, also those that are labelled otherwise."""
    items: dict[object, set[str]] = defaultdict(set)
    for entry in one.content["annotations"]:
        if isinstance(entry, dict) and isinstance(entry.get("image_id"), int | float | str):
            items[entry["image_id"]].add(repr((entry.get("category_id"), entry.get("bbox"))))
    findings = []
    for (first_id, first), *copies in _copies(one, facts):
        for id, path in copies:
            detail, kind = f"{_within(path, one)} is {_within(first, one)} (id {first_id})", "duplicate_picture"
            if items[id] != items[first_id]:
                mine, its = (counted(len(items[which]), "item") for which in (id, first_id))
                detail, kind = f"{detail}, with {mine} in place of {its}", "copy_labelled_otherwise"
            if path != first:  # of one file in two entries is told elsewhere
                findings.append(Finding(kind, "image", id, detail))
    return findings


def with_copies_merged(one: CocoSet, facts: Facts) -> tuple[CocoSet, list[Finding]]:
    """A repaired set with one image for all entries of the same pixels, with the annotations of all; what was done."""
    firsts: dict[object, int | str] = {}
    told = []
    for (first_id, _), *copies in _copies(one, facts):
        for id, path in copies:
            firsts[id] = first_id
            change = f"its annotations went to image {first_id}"
            told.append(Finding("copy_labelled_otherwise", "image", id, _within(path, one), change))
    images = [image for image in one.content["images"] if image["id"] not in firsts]
    annotations = [
        entry | {"image_id": firsts.get(entry["image_id"], entry["image_id"])} for entry in one.content["annotations"]
    ]
    return replace(one, content=one.content | {"images": images, "annotations": annotations}), told


def _copies(one: CocoSet, facts: Facts) -> list[list[tuple[int | str, Path]]]:
    """The ids and paths of images with the same pixels."""
    same: dict[bytes, list[tuple[int | str, Path]]] = defaultdict(list)
    for id, path in _listed(one):
        if path in facts and (digest := facts[path].digest):
            same[digest].append((id, path))
    return [copies for copies in same.values() if len(copies) > 1]


def compare_sets(sets: Sequence[CocoSet], facts: Facts) -> Iterator[tuple[int, Finding]]:
    """Images and classes of each set beside those of the sets before it, with the set's position."""
    # by content where files were read, else by path: one folder may serve several JSON files
    firsts: dict[bytes | Path, tuple[int, Path, int | str]] = {}
    for position, one in enumerate(sets):
        for id, path in _listed(one):
            key = (facts[path].digest if path in facts else None) or Path(os.path.abspath(path))
            first_set, first, first_id = firsts.setdefault(key, (position, path, id))
            if first_set != position:
                there = sets[first_set]
                detail = f"{_within(path, one)} is {_within(first, there)} (id {first_id}) of {there.name}"
                yield position, Finding("picture_in_two_sets", "image", id, detail)
        if position and (difference := class_names(one) ^ class_names(sets[0])):
            names = ", ".join(sorted(difference))
            yield position, Finding("classes_differ", "set", None, f"only one of it and {sets[0].name} has {names}")


def near_duplicates(sets: Sequence[CocoSet], facts: Facts) -> Iterator[tuple[int, Finding]]:
    """Images that show the same scan as another one before them, with other pixels; with the set's position."""
    scans = scan_of_digest(facts.values())
    firsts: dict[int, tuple[int, Path, int | str]] = {}
    told: dict[bytes, int] = {}  # the first set that has these pixels: that they are there again is told elsewhere
    for position, one in enumerate(sets):
        for id, path in _listed(one):
            digest = facts[path].digest if path in facts else None
            if digest is None or told.setdefault(digest, position) != position:
                continue
            first_set, first, first_id = firsts.setdefault(scans[digest], (position, path, id))
            if facts[first].digest == digest:
                continue
            there = sets[first_set]
            detail = f"{_within(path, one)} shows {_within(first, there)} (id {first_id})"
            if first_set == position:
                yield position, Finding("near_duplicate", "image", id, detail)
            else:
                yield position, Finding("near_duplicate_in_two_sets", "image", id, f"{detail} of {there.name}")


def scan_of_digest(facts: Iterable[ImageFacts]) -> dict[bytes, int]:
    """Which scan images show, by their digests: the same number for the same scan, also with other pixels."""
    thumbnails = {one.digest: one.thumbnail for one in facts if one.digest and one.thumbnail}
    return dict(zip(thumbnails, same_scans(list(thumbnails.values())), strict=True))


def unlisted_files(sets: Sequence[CocoSet], named: Set[str] = frozenset()) -> Iterator[tuple[int, Finding]]:
    """Images in a set's folder that no set lists, told once per folder; `named` are those that
    belong to listed ones: images of another name, and their other energies."""
    listed = {os.path.abspath(path) for one in sets for _, path in _listed(one)} | named
    seen = set()
    for position, one in enumerate(sets):
        if one.images_dir is None or os.path.abspath(one.images_dir) in seen:
            continue
        if one.images_dir.is_symlink() and one.images_dir.name == LINKED_IMAGES:
            continue  # it has the images of all splits of a public set
        seen.add(os.path.abspath(one.images_dir))
        for folder, _, names in os.walk(one.images_dir):
            for name in sorted(names):
                path = os.path.join(folder, name)
                if Path(name).suffix.lower() in IMAGE_SUFFIXES and os.path.abspath(path) not in listed:
                    yield position, Finding("unlisted_picture", "file", os.path.relpath(path, one.images_dir))


def _listed(one: CocoSet) -> Iterator[tuple[int | str, Path]]:
    if one.images_dir is None:
        return
    for position, image in enumerate(one.content["images"]):
        if isinstance(image, dict) and (path := image_path(one.images_dir, image)):
            yield identity(image, position), path


def class_names(one: CocoSet) -> set[str]:
    """The names of the classes that a set declares."""
    return {str(c["name"]) for c in one.content["categories"] if isinstance(c, dict) and "name" in c}


def _within(path: Path, one: CocoSet) -> str:
    return os.path.relpath(path, one.images_dir)
