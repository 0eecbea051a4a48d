"""The images of a set: their ids, names, sizes and files, and the size in which their annotations are to be read."""

import os
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from xray_lazy.data.check.entries import identity
from xray_lazy.data.check.image_facts import ImageFacts
from xray_lazy.data.check.masks import EDGE_TOLERANCE, Frame
from xray_lazy.data.check.report import Finding
from xray_lazy.data.check.values import are_coordinates, is_whole
from xray_lazy.utils.wording import counted

# Of an image this many times as long as wide, an input of 1333 pixels leaves a network of stride 32 one cell.
THIN = 40


@dataclass
class Images:
    """The examined list `images`.

    Attributes:
        entries: the list after repair.
        frames: by id, the (width, height) that holds for the annotations, or None where it is unknown or in doubt.
        dropped: the ids of images that go, and their annotations with them.
        complete: whether every entry has an id, so that an unknown id truly has no image.
    """

    entries: list[dict] = field(default_factory=list)
    frames: dict[int, Frame] = field(default_factory=dict)
    dropped: set[int] = field(default_factory=set)
    complete: bool = True
    findings: list[Finding] = field(default_factory=list)


@dataclass(frozen=True)
class ImageRules:
    """What repair does where the files alone don't tell.

    Attributes:
        size: (width, height) for images without a size in the JSON and without a readable file.
        drop_unreadable: leave out images that are missing or can't be read.
    """

    size: tuple[int, int] | None = None
    drop_unreadable: bool = False


def image_path(images_dir: Path, image: dict) -> Path | None:
    """Where the image of an entry lies, or None where it names no file."""
    name = image.get("file_name")
    return images_dir / name if isinstance(name, str) and name.strip() else None


def examine_images(
    images: list[dict],
    annotations: list[dict],
    images_dir: Path | None,
    facts: Mapping[Path, ImageFacts],
    rules: ImageRules,
    new_names: Mapping[str, str],
) -> Images:
    """Look at the images; without facts of a file its JSON entry is all there is.

    Args:
        new_names: the right names of files that are there under another one.
    """
    result = Images()
    if not images:
        result.findings.append(Finding("no_pictures", "set", None))
    by_image = _annotations_by_image(annotations)
    entries = _unique_entries(images, by_image, result)
    folder = images_dir or Path()
    for image in entries:
        if not is_whole(image.get("id")):
            result.entries.append(image)
            continue
        if (name := image.get("file_name")) and isinstance(name, str) and name in new_names:
            image = {**image, "file_name": new_names[name]}
            change = f"file_name {new_names[name]}"
            result.findings.append(
                Finding("picture_name", "image", image["id"], f"{name}, there as {new_names[name]}", change)
            )
        path = image_path(folder, image)
        known = facts.get(path) if path else None
        if known and known.fault:
            change = (
                f"dropped with {counted(len(by_image[image['id']]), 'annotation')}" if rules.drop_unreadable else ""
            )
            detail = f"{image['file_name']} {known.why}"
            result.findings.append(Finding(known.fault, "image", image["id"], detail, change))
            if rules.drop_unreadable:
                result.dropped.add(image["id"])
                continue
        if known and known.darkness:
            detail = f"{image['file_name']}: {known.darkness}"
            result.findings.append(Finding("picture_dark", "image", image["id"], detail))
        if known and known.remark:
            detail = f"{image['file_name']}: {known.remark}"
            result.findings.append(Finding("picture_damaged", "image", image["id"], detail))
        result.entries.append(_with_size(image, known, by_image[image["id"]], rules, result))
    return result


def _annotations_by_image(annotations: list[dict]) -> dict[int, list[dict]]:
    by_image = defaultdict(list)
    for annotation in annotations:
        if is_whole(annotation.get("image_id")):
            by_image[annotation["image_id"]].append(annotation)
    return by_image


def _unique_entries(images: list[dict], by_image: dict[int, list], result: Images) -> list[dict]:
    """Entries without copies; findings go to `result`."""
    entries, id_names, file_ids = [], {}, {}
    for position, image in enumerate(images):
        has_id, has_name = is_whole(image.get("id")), image_path(Path(), image) is not None
        if not has_id or not has_name:
            detail = f"id {image.get('id')!r}, file_name {image.get('file_name')!r}"
            result.findings.append(Finding("picture_fields", "image", identity(image, position), detail))
        result.complete &= has_id
        if has_id and image["id"] in id_names:
            first = id_names[image["id"]]
            same = first == image.get("file_name")
            detail = f"{image.get('file_name')!r}, also {first!r}"
            change = "dropped" if same else ""
            result.findings.append(Finding("duplicate_picture_id", "image", image["id"], detail, change))
            if same:
                continue
        elif has_id:
            id_names[image["id"]] = image.get("file_name")
            if has_name:
                file_ids.setdefault(os.path.normpath(image["file_name"]), []).append(image["id"])
        entries.append(image)
    spare = _spare_entries(file_ids, by_image, result)
    return [image for image in entries if not (is_whole(image.get("id")) and image["id"] in spare)]


def _spare_entries(file_ids: dict[str, list[int]], by_image: dict[int, list], result: Images) -> set[int]:
    """Of several entries for one file, those that no annotation needs."""
    spare = set()
    for name, ids in file_ids.items():
        keep = next((id for id in ids if by_image.get(id)), ids[0])
        for id in ids:
            if id == keep:
                continue
            change = "" if by_image.get(id) else "dropped, it has no annotations"
            result.findings.append(Finding("duplicate_file_name", "image", id, f"{name}, also id {keep}", change))
            if change:
                spare.add(id)
    return spare


def _with_size(
    image: dict, known: ImageFacts | None, annotations: list[dict], rules: ImageRules, result: Images
) -> dict:
    """The entry with the size that repair gives it; its frame and findings go to `result`."""
    stated = _stated_size(image)
    actual = known.size if known else None
    kind, change, size = "", "", stated
    if stated is None:
        size = actual or rules.size
        kind = "size_missing"
        change = f"{size[0]}x{size[1]}" if size else ""
    elif known and actual and stated != actual:
        if _fits(stated, actual, annotations):
            kind = "size_turned" if known.turned and stated == actual[::-1] else "size_differs"
            size, change = actual, f"{actual[0]}x{actual[1]}"
        else:
            kind, size = "size_conflict", None
    # two different images under one id leave it open which of them an annotation means
    result.frames[image["id"]] = size if result.frames.get(image["id"], size) == size else None
    if kind:
        detail = f"{image.get('file_name')}: {image.get('width')}x{image.get('height')}"
        detail += f", the file is {actual[0]}x{actual[1]}" if actual else ""
        result.findings.append(Finding(kind, "image", image["id"], detail, change))
    if size and max(size) > THIN * min(size):
        detail = f"{image.get('file_name')}: {size[0]}x{size[1]}"
        result.findings.append(Finding("picture_thin", "image", image["id"], detail))
    return {**image, "width": size[0], "height": size[1]} if size and size != stated else image


def _stated_size(image: dict) -> tuple[int, int] | None:
    width, height = image.get("width"), image.get("height")
    return (width, height) if is_whole(width) and is_whole(height) and min(width, height) > 0 else None


def _fits(stated: tuple[int, int], actual: tuple[int, int], annotations: list[dict]) -> bool:
    """Whether the annotations may be read in the file's size.

    Where they fit the stated size but not the file's, or the file is a scaled copy, they were made for another
    image than this file: a new size alone would put them in the wrong place.
    """
    x, y = reach(annotations)

    def holds(size: tuple[int, int]) -> bool:
        return x <= size[0] + EDGE_TOLERANCE and y <= size[1] + EDGE_TOLERANCE

    if not annotations or not holds(stated):
        return True
    return holds(actual) and not is_scaled_copy(stated, actual)


def is_scaled_copy(stated: tuple[int, int], actual: tuple[int, int]) -> bool:
    """Whether one size is the other one scaled, up to rounding by a pixel."""
    return abs(stated[0] * actual[1] - stated[1] * actual[0]) <= max(*stated, *actual)


def reach(annotations: list[dict]) -> tuple[float, float]:
    """The largest x and y of boxes and masks."""
    xs, ys = [0.0], [0.0]
    for annotation in annotations:
        box, mask = annotation.get("bbox"), annotation.get("segmentation")
        if isinstance(box, list) and len(box) == 4 and are_coordinates(box):
            xs.append(box[0] + box[2])
            ys.append(box[1] + box[3])
        if isinstance(mask, dict) and isinstance(mask.get("size"), list) and len(mask["size"]) == 2:
            height, width = mask["size"]
            xs += [width] if is_whole(width) else []
            ys += [height] if is_whole(height) else []
        for part in mask if isinstance(mask, list) else ():
            if isinstance(part, list) and are_coordinates(part):
                xs += part[0::2]
                ys += part[1::2]
    return max(xs), max(ys)
