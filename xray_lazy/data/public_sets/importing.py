"""Make COCO sets of this project out of a public set's folder, which stays as it is."""

import os
import random
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from xray_lazy.config.suggest import did_you_mean, nearest
from xray_lazy.data.bag_names import BAG, VIEW
from xray_lazy.data.check.images import is_scaled_copy
from xray_lazy.data.check.shapes import clip_box, examine_mask
from xray_lazy.data.convert.class_file import check_rename
from xray_lazy.data.convert.label import Instance, coco_shape, scaled_instance
from xray_lazy.data.dataset_places import LINKED_IMAGES, UNFINISHED_IMPORT
from xray_lazy.data.image_files.image_file import UnreadableImage, image_sizes
from xray_lazy.data.public_sets.declaration import Notes, PublicSet, Scan, Shares
from xray_lazy.data.public_sets.registry import PUBLIC_SETS
from xray_lazy.errors import UserError
from xray_lazy.utils.atomic_file import write_json
from xray_lazy.utils.results_place import (
    RECORD,
    check_as_written,
    move_all,
    record_written,
    recorded_files,
    sole_writer,
)
from xray_lazy.utils.terminal import tracked

SMALLEST_SIDE = 1.0  # pixels: a box of less shows nothing


@dataclass(frozen=True)
class Imported:
    """One of the sets that were made.

    Attributes:
        name: `xray_opixray_test_ol3`.
        images, empty: how many, and how many of them without items.
        items: of each class.
    """

    name: str
    images: int
    empty: int
    items: Counter


class Annotated(NamedTuple):
    """An image as COCO files have it.

    Attributes:
        size: (width, height).
        items: name of the class, and box, area and mask.
        fields: of bag and view, where the set has views.
    """

    size: tuple[int, int]
    items: list[tuple[str, dict]]
    fields: dict[str, str]


def import_set(
    name: str,
    folder: Path,
    root: Path,
    rename: Mapping[str, str] | None = None,
    seed: int = 0,
    overwrite: bool = False,
    show_progress: bool = False,
) -> tuple[list[Imported], Notes]:
    """Write the COCO files of all subsets below `root`, and a link to the images.

    Args:
        name: of `PUBLIC_SETS`.
        folder: of the set as it is published, or one that has nothing but that folder in it.
        root: of the project's sets.
        rename: other names for classes; two that get the same one become one class.
        seed: of the splits that the set lacks.
        overwrite: replace an earlier import, with sets that this one does not make.
        show_progress: draw a progress bar on stderr.

    Returns:
        What was made, and what was repaired or left out.

    Raises:
        UserError: there is no such set, the folder is not that set's, or files of these names are there already.
    """
    if name not in PUBLIC_SETS:
        fix = did_you_mean(nearest(name, PUBLIC_SETS)) or f"there are {', '.join(PUBLIC_SETS)}"
        raise UserError(f"no importer is called {name}", fix)
    declared = PUBLIC_SETS[name]
    place = _published(declared, folder)
    rename = rename or {}
    notes, written, made = Notes(), {}, []
    scanners = {f"{name}_{part}" if part else name: place / inside for part, inside in declared.parts.items()}
    for scanner, part_folder in scanners.items():
        subsets = declared.read(part_folder, declared.classes, notes)
        if not any(subsets.values()):
            raise _no_images(declared, part_folder, notes)
        check_rename(rename, declared.classes or _seen(subsets))
        for shares in declared.shares:
            _divide(subsets, shares, seed, notes)
        known = _annotated(part_folder, subsets, notes, f"reading {scanner}", show_progress)
        others = [line for line in notes.lines() if "none of the set's" in line]
        if others and not any(image.items for image in known.values()):
            raise UserError(
                f"{part_folder} has no item of the classes of {declared.title}: {'; '.join(others)}",
                "it is another set, or was labelled anew: `tools/dataset.py convert` takes any classes",
            )
        classes = _classes(declared.classes, subsets, rename)
        if not known:
            raise _no_images(declared, part_folder, notes)
        for subset, scans in subsets.items():
            content = _content(sorted({scan.file for scan in scans} & known.keys()), known, classes, rename)
            if not content["images"]:
                notes.add("subset without images: not written", f"xray_{scanner}_{subset}")
                continue
            info = {"description": f"{declared.title}, {subset}", "url": declared.page, "licence": declared.licence}
            written[root / "annotations" / scanner / f"{subset}.json"] = {"info": info | {"seed": seed}, **content}
            made.append(_told(f"xray_{scanner}_{subset}", content))
    links = {root / "images" / scanner / LINKED_IMAGES: part_folder for scanner, part_folder in scanners.items()}
    _write(written, links, [root / "annotations" / scanner for scanner in scanners], overwrite, notes)
    return made, notes


def _no_images(declared: PublicSet, folder: Path, notes: Notes) -> UserError:
    of_which = f" that can be taken: {'; '.join(notes.lines())}" if notes.counts else ""
    needs = ", ".join(declared.needs) or "its files"
    return UserError(
        f"{folder} has no images of {declared.title}{of_which}",
        f"the set is to be had at {declared.page} ({declared.licence}); give the folder that has {needs}",
    )


def _published(declared: PublicSet, folder: Path) -> Path:
    """The folder itself, or the only one in it, where that is the set."""
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}", f"{declared.title} is to be had at {declared.page}")
    inside = [path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith((".", "__"))]
    candidates = [folder, *(inside if len(inside) == 1 else ())]
    for candidate in candidates:
        if all((candidate / need).exists() for need in declared.needs):
            return candidate.resolve()
    missing = [need for need in declared.needs if not (folder / need).exists()]
    raise UserError(
        f"{folder} is not {declared.title} as it is published: it lacks {', '.join(missing)}",
        f"unpack all of it; it is to be had at {declared.page} ({declared.licence})",
    )


def _divide(subsets: dict[str, list[Scan]], shares: Shares, seed: int, notes: Notes) -> None:
    """Add the splits that a set lacks, all images of a group in the same one."""
    scans = subsets.get(shares.of, [])
    groups = sorted({scan.group for scan in scans})
    random.Random(f"{seed} {shares.of}").shuffle(groups)
    part_of, begin = {}, 0.0
    for part, share in shares.parts.items():
        first, last = round(begin * len(groups)), round((begin + share) * len(groups))
        part_of |= dict.fromkeys(groups[first:last], part)
        begin += share
    for part in shares.parts:
        subsets[part] = [scan for scan in scans if part_of[scan.group] == part]
    if shares.of == "all":
        del subsets["all"]
    what = ", ".join(f"{part} {share:.0%}" for part, share in shares.parts.items())
    notes.add(f"split that the set lacks: {what} of {shares.of}, by bags, seed {seed}", f"{len(groups)} bags")


def _annotated(
    folder: Path, subsets: Mapping[str, list[Scan]], notes: Notes, title: str, show_progress: bool
) -> dict[Path, Annotated]:
    """Each image once, in however many subsets it is, but those that can't be read or don't fit their label."""
    scans = {scan.file: scan for of_subset in subsets.values() for scan in of_subset}
    sizes = tracked(image_sizes(folder / file for file in scans), len(scans), title, show_progress)
    known = {}
    for (file, scan), size in zip(scans.items(), sizes, strict=True):
        if isinstance(size, UnreadableImage):
            notes.add("image that can't be read: left out", f"{file}: {size.why}")
        elif (items := _at_scale(scan, size, notes)) is not None:
            shapes = ((item.class_name, _shape(item, size, file, notes)) for item in items)
            fields = {BAG: scan.group, VIEW: scan.view} if scan.view else {}
            known[file] = Annotated(size, [(name, shape) for name, shape in shapes if shape], fields)
    return known


def _classes(declared: Sequence[str], subsets: Mapping[str, list[Scan]], rename: Mapping[str, str]) -> dict[str, int]:
    """Category ids by the names that count."""
    names = dict.fromkeys(rename.get(name, name) for name in (declared or _seen(subsets)))
    return {name: number for number, name in enumerate(names, start=1)}


def _seen(subsets: Mapping[str, list[Scan]]) -> list[str]:
    """The names of classes that have items, in the order of the alphabet."""
    return sorted({instance.class_name for scans in subsets.values() for scan in scans for instance in scan.instances})


def _content(
    files: Sequence[Path], known: Mapping[Path, Annotated], classes: Mapping[str, int], rename: Mapping[str, str]
) -> dict:
    images: list[dict] = []
    annotations: list[dict] = []
    for number, file in enumerate(files, start=1):
        width, height = known[file].size
        own = {"id": number, "file_name": file.as_posix(), "width": width, "height": height}
        images.append(own | known[file].fields)
        for name, shape in known[file].items:
            ids = {"id": len(annotations) + 1, "image_id": number, "category_id": classes[rename.get(name, name)]}
            annotations.append({**ids, **shape})
    categories = [{"id": number, "name": name} for name, number in classes.items()]
    return {"images": images, "annotations": annotations, "categories": categories}


def _at_scale(scan: Scan, size: tuple[int, int], notes: Notes) -> Sequence[Instance] | None:
    if scan.stated in (None, size) or not scan.instances:
        return scan.instances
    sizes = f"{scan.file}: {scan.stated[0]}x{scan.stated[1]} stated, the image has {size[0]}x{size[1]}"
    if not is_scaled_copy(scan.stated, size):
        notes.add("label made for an image of another form: left out with its image", sizes)
        return None
    notes.add("label that states another size, scaled to the image's", sizes)
    return [scaled_instance(instance, scan.stated, size) for instance in scan.instances]


def _shape(item: Instance, size: tuple[int, int], file: Path, notes: Notes) -> dict | None:
    """As an annotation has it; boxes with corners in the other order or over the edge are put right, and masks."""
    mask, faults = examine_mask(item.mask, size)
    for kind, detail, _ in faults:
        notes.add(f"mask that had to be repaired, or left out where nothing was left ({kind})", f"{file}: {detail}")
    if any(kind == "rle_size" for kind, *_ in faults):
        mask = None  # of another image
    crowd = {"iscrowd": int(item.is_crowd)}
    if mask and not item.box:
        return coco_shape(Instance(item.class_name, mask=mask), size) | crowd
    x, y, width, height = item.box or (0, 0, 0, 0)
    if width < 0 or height < 0:
        notes.add("box with its corners in the other order, put right", file)
        x, y, width, height = min(x, x + width), min(y, y + height), abs(width), abs(height)
    box = clip_box([x, y, width, height], size)
    if min(box[2:]) < SMALLEST_SIDE:
        notes.add("box without an area inside of its image: left out", file)
        return None
    if any(abs(ours - theirs) > 1e-3 for ours, theirs in zip(box, (x, y, width, height), strict=True)):
        notes.add("box over the edge of its image, cut there", file)
    return coco_shape(Instance(item.class_name, box, mask), size) | crowd


def _told(name: str, content: Mapping) -> Imported:
    names = {category["id"]: category["name"] for category in content["categories"]}
    items = Counter(names[annotation["category_id"]] for annotation in content["annotations"])
    occupied = {annotation["image_id"] for annotation in content["annotations"]}
    return Imported(name, len(content["images"]), len(content["images"]) - len(occupied), items)


def _write(
    files: Mapping[Path, dict], links: Mapping[Path, Path], folders: Sequence[Path], overwrite: bool, notes: Notes
) -> None:
    """All of an import, or nothing of it where it can't be written; `folders` are those that its files may be in."""
    with ExitStack() as held:
        for link in links:
            held.enter_context(sole_writer(link.parent))
        there = [path for path in (*files, *links) if os.path.lexists(path)]
        if there and not overwrite:
            raise UserError(f"{there[0]} is there already", "take another --output, or --overwrite")
        for link in links:
            if link.is_dir() and not link.is_symlink():
                raise UserError(
                    f"{link} is a folder, and should be a link to the images", "move it, or take another --output"
                )
        # without the link, other files are of a split
        earlier = [
            file for folder, link in zip(folders, links, strict=True) if link.is_symlink() for file in _of(folder)
        ]
        check_as_written([*files, *earlier])
        for file in (file for folder in folders for file in sorted(folder.glob("*.json"))):
            if file not in files and file not in earlier:
                notes.add("file beside those of the import, which stays as it is", file)
        unfinished = [folder / UNFINISHED_IMPORT for folder in folders]
        for folder in unfinished:  # of one that was killed
            shutil.rmtree(folder, ignore_errors=True)
        try:
            for path, content in files.items():
                write_json(path.parent / UNFINISHED_IMPORT / path.name, content)
            for folder in {path.parent: None for path in files}:
                record_written(folder / UNFINISHED_IMPORT, [path.name for path in files if path.parent == folder])
            _replace(files, links, earlier)
        finally:
            for folder in unfinished:
                shutil.rmtree(folder, ignore_errors=True)


def _of(folder: Path) -> list[Path]:
    """The sets of an earlier import."""
    return [folder / name for name in recorded_files(folder) if name.endswith(".json")]


def _replace(files: Mapping[Path, dict], links: Mapping[Path, Path], earlier: Sequence[Path]) -> None:
    """Give what is written its place.

    Old sets go first, and new ones come last: where this is killed, some are missing, and none is of two imports.
    """
    going = {path: path.parent / UNFINISHED_IMPORT / f"earlier_{path.name}" for path in (*earlier, *files)}
    for place in going.values():
        place.parent.mkdir(exist_ok=True)
    move_all({path: place for path, place in going.items() if path.exists()})
    for link, target in links.items():
        # a link under another name takes the place of an old one at once
        fresh = link.with_name(f".{LINKED_IMAGES}.unfinished")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(target, target_is_directory=True)
        fresh.replace(link)
    for folder in {path.parent: None for path in files}:
        (folder / UNFINISHED_IMPORT / RECORD).replace(folder / RECORD)
    for path in files:
        (path.parent / UNFINISHED_IMPORT / path.name).replace(path)
