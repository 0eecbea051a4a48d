"""The annotations of a set: which image and class they name, their ids and copies; `shapes` looks at their shapes."""

from collections import defaultdict
from dataclasses import dataclass, field

from xray_lazy.data.check.box_form import find_box_form
from xray_lazy.data.check.classes import Classes
from xray_lazy.data.check.entries import identity
from xray_lazy.data.check.images import Images
from xray_lazy.data.check.report import Finding
from xray_lazy.data.check.shapes import examine_shape
from xray_lazy.data.check.values import crowd_value, is_whole, unused_ids

Named = tuple[int | str, dict]  # an annotation with the name that findings give it: its id in the JSON, or #position


@dataclass
class Instances:
    """The examined list `annotations`: `entries` is the list after repair."""

    entries: list[dict] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def examine_instances(annotations: list[dict], images: Images, classes: Classes) -> Instances:
    """Look at the annotations, given what is known of images and classes."""
    findings: list[Finding] = []
    placed, unplaced = _place(annotations, images, classes, findings)
    form = find_box_form((annotation, images.frames[annotation["image_id"]]) for _, annotation in placed)
    if form:  # each box by itself would get advice that makes it worse
        detail, to_coco = form
        finding = Finding("box_form", "set", None, f"{detail}; COCO's: {to_coco}")
        return Instances([_with_class(annotation, classes) for annotation in annotations], [*findings, finding])
    shaped: list[Named] = []
    without_mask = []
    for name, annotation in placed:
        shape = examine_shape(annotation, images.frames[annotation["image_id"]])
        findings += [Finding(kind, "instance", name, *texts) for kind, *texts in shape.faults]
        if shape.annotation is None:
            continue
        if shape.is_box_only:
            without_mask.append(name)
        findings += _crowd(annotation, name)
        shaped.append((name, _with_new_values(shape.annotation, classes)))
    kind = "mask_missing" if len(without_mask) < len(shaped) else "box_only"
    findings += [Finding(kind, "instance", name) for name in without_mask]
    entries = _number(_without_copies(shaped, findings) + unplaced, findings)
    if not annotations:
        findings.append(Finding("no_instances", "set", None))
    return Instances(entries, findings)


def _place(
    annotations: list[dict], images: Images, classes: Classes, findings: list[Finding]
) -> tuple[list[Named], list[Named]]:
    """Annotations that have an image and a class, and those that may yet have one."""
    known = (
        ("image_id", "instance_without_picture", images.frames, images.complete),
        ("category_id", "undeclared_class", classes.new_ids, classes.complete),
    )
    placed, unplaced = [], []
    for position, annotation in enumerate(annotations):
        image_id, name = annotation.get("image_id"), identity(annotation, position)
        if is_whole(image_id) and image_id in images.dropped:
            continue
        missing = [
            (kind, f"{key} {annotation.get(key)!r}", complete)
            for key, kind, ids, complete in known
            if not is_whole(annotation.get(key)) or annotation[key] not in ids
        ]
        # where an entry of the other list has no id, this may be the annotation that belongs to it
        lost = any(complete for _, _, complete in missing)
        findings += [
            Finding(kind, "instance", name, text, "dropped" if lost else "")
            for kind, text, _ in missing
            if kind != "undeclared_class" or not _is_nameless(annotation.get("category_id"), classes)
        ]
        if not missing:
            placed.append((name, annotation))
        elif not lost:
            unplaced.append((name, _with_class(annotation, classes)))
    return placed, unplaced


def _is_nameless(category_id: object, classes: Classes) -> bool:
    """Whether a class is declared without a name, which is told of the class."""
    return is_whole(category_id) and category_id in classes.nameless


def _crowd(annotation: dict, name: int | str) -> list[Finding]:
    value = annotation.get("iscrowd")
    if is_whole(value) and value in (0, 1):
        return [Finding("crowd", "instance", name)] if value else []
    detail = f"iscrowd {value!r}" if "iscrowd" in annotation else "no iscrowd"
    return [Finding("iscrowd_value", "instance", name, detail, f"iscrowd {crowd_value(value)}")]


def _with_new_values(annotation: dict, classes: Classes) -> dict:
    crowd, annotation = annotation.get("iscrowd"), _with_class(annotation, classes)
    return annotation if is_whole(crowd) and crowd in (0, 1) else {**annotation, "iscrowd": crowd_value(crowd)}


def _with_class(annotation: dict, classes: Classes) -> dict:
    """An annotation under the id that its class has after repair."""
    id = annotation.get("category_id")
    new = classes.new_ids.get(id, id) if is_whole(id) else id
    return annotation if new == id else {**annotation, "category_id": new}


def _without_copies(named: list[Named], findings: list[Finding]) -> list[Named]:
    """Drop exact repetitions of image, class, box and mask."""
    same_box = defaultdict(list)
    for index, (_, entry) in enumerate(named):
        same_box[entry["image_id"], entry["category_id"], entry["iscrowd"], tuple(entry["bbox"])].append(index)
    copies = set()
    for indices in same_box.values():
        if len(indices) == 1:
            continue
        first_with: dict[str, int] = {}
        for index in indices:
            name, entry = named[index]
            first = first_with.setdefault(repr(entry.get("segmentation") or None), index)
            if first != index:
                findings.append(Finding("duplicate_instance", "instance", name, f"as {named[first][0]}", "dropped"))
                copies.add(index)
    return [one for index, one in enumerate(named) if index not in copies]


def _number(named: list[Named], findings: list[Finding]) -> list[dict]:
    """Give every entry an id of its own; the first one with an id keeps it."""
    entries, taken = [], set()
    free = unused_ids({entry["id"] for _, entry in named if is_whole(entry.get("id"))})
    for name, entry in named:
        id = entry.get("id")
        if not is_whole(id):
            kind, detail = "instance_id_missing", f"id {id!r}"
        elif id in taken:
            kind, detail = "duplicate_instance_id", f"image {entry.get('image_id')}"
        elif id == 0:
            kind, detail = "instance_id_zero", f"image {entry.get('image_id')}"
        else:
            taken.add(id)
            entries.append(entry)
            continue
        taken.add(id if is_whole(id) else None)
        number = next(free)
        findings.append(Finding(kind, "instance", name, detail, f"id {number}"))
        entries.append({**entry, "id": number})
    return entries
