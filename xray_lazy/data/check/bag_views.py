"""Bags and their views, where the images of a set name them: how many there are, and what lacks or is there twice."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from xray_lazy.data.bag_names import BAG, VIEW, bag_fields
from xray_lazy.data.check.coco_set import CocoSet
from xray_lazy.data.check.entries import identity
from xray_lazy.data.check.report import BagCounts, Finding


class _Named(NamedTuple):
    id: int | str
    file: str
    bag: str
    view: str


def count_bags(one: CocoSet) -> BagCounts | None:
    """None where no image names a bag."""
    named = [image for image in _images(one) if image.bag]
    counts = Counter(Counter(image.bag for image in named).values())
    return BagCounts(dict(counts), sorted({image.view for image in named} - {""})) if named else None


def examine_bags(one: CocoSet) -> list[Finding]:
    """Faults of bags, where images name them."""
    counts, bags, findings = count_bags(one), defaultdict(list), []
    if counts is None:
        return []
    for image in _images(one):
        if image.bag and (image.view or not counts.views):
            bags[image.bag].append(image)
        else:
            findings.append(Finding("bag_not_named", "image", image.id, image.file))
    for bag, images in bags.items():
        firsts: dict[str, _Named] = {}
        for image in images if counts.views else ():
            first = firsts.setdefault(image.view, image)
            if first is not image:
                detail = f"view {image.view} of bag {bag} is {first.file} (id {first.id}), too"
                findings.append(Finding("view_twice", "image", image.id, detail))
        if lacking := [view for view in counts.views if view not in firsts]:
            detail = f"bag {bag} has {', '.join(firsts)} and not {', '.join(lacking)}"
            findings.append(Finding("view_missing", "image", images[0].id, detail))
    return findings


def bags_in_two_sets(sets: Sequence[CocoSet]) -> Iterator[tuple[int, Finding]]:
    """Images of bags that a set before it of the same folder has other images of, with the set's position."""
    firsts: dict[tuple, int] = {}
    files = [{image.file for image in _images(one)} for one in sets]
    for position, one in enumerate(sets):
        for image in _images(one):
            key = one.json_file and one.json_file.parent, image.bag
            first = firsts.setdefault(key, position) if image.bag else position
            if first != position and image.file not in files[first]:
                detail = f"{image.file} shows bag {image.bag} of {sets[first].name}"
                yield position, Finding("bag_in_two_sets", "image", image.id, detail)


def _images(one: CocoSet) -> Iterator[_Named]:
    for position, image in enumerate(one.content["images"]):
        if isinstance(image, dict):
            fields = bag_fields(image)
            yield _Named(
                identity(image, position), str(image.get("file_name")), fields.get(BAG, ""), fields.get(VIEW, "")
            )
