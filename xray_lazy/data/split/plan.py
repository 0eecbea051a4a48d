"""Which images and annotations each split gets."""

import math
import shlex
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

from xray_lazy.data.bag_names import BAG, bag_fields, groups_of, named_fields
from xray_lazy.data.check.image_facts import read_facts
from xray_lazy.data.check.neighbours import scan_of_digest
from xray_lazy.data.dataset_places import SPLITS
from xray_lazy.data.split.scanner_export import Export
from xray_lazy.data.split.stratification import assign_splits
from xray_lazy.errors import UserError
from xray_lazy.utils.wording import counted

DUPLICATES = "duplicates"


@dataclass(frozen=True)
class SplitPlan:
    """One export and its parts.

    Attributes:
        export: what is split.
        parts: the COCO content by split; a split whose ratio is 0 is not there.
        groups: how many images each group has that is kept together, of those with several.
    """

    export: Export
    parts: dict[str, dict]
    groups: list[int] = field(default_factory=list)


def plan_split(
    export: Export,
    ratios: Sequence[float],
    seed: int = 0,
    group_by: str | None = None,
    show_progress: bool = False,
) -> SplitPlan:
    """Deal an export's images to train, val and test, stratified by class.

    The same images with the same classes, ratios and seed give the same split, whatever the order in the JSON.

    Args:
        export: the set.
        ratios: the shares of train, val and test; they sum to 1.
        seed: another seed gives another split.
        group_by: a regular expression searched in each file name; images for which its first group (or, without one,
            the whole match) is the same stay together; with a second group these are bags, and that is the view,
            both of which become fields of the images. Or `DUPLICATES`: those that show the same scan. Without it
            images stay together that say themselves that they show the same bag.
        show_progress: draw a progress bar on stderr while images are compared.

    Raises:
        UserError: the ratios are none, the pattern does not fit, or there are too few images or groups.
    """
    _require_shares(ratios)
    images, annotations = export.content["images"], export.content["annotations"]
    names = [image["file_name"] for image in images]
    groups: Sequence[Hashable] = [bag_fields(image).get(BAG, name) for image, name in zip(images, names, strict=True)]
    if group_by == DUPLICATES:
        groups = _same_scans(export, show_progress)
    elif group_by:
        groups, fields = groups_of(names, group_by), named_fields(names, group_by)
        images = [image | own for image, own in zip(images, fields, strict=True)]
    splits = sum(ratio > 0 for ratio in ratios)
    if len(set(groups)) < splits:
        grouped = f", which --group-by {shlex.quote(group_by)} joins into {len(set(groups))}" if group_by else ""
        raise UserError(
            f"{export.json_file} has {counted(len(names), 'image')}{grouped}: too few for {splits} splits",
            "give more images, or leave splits out with a ratio of 0",
        )
    classes = defaultdict(set)
    for annotation in annotations:
        classes[annotation["image_id"]].add(annotation["category_id"])
    assigned = assign_splits(names, [classes[image["id"]] for image in images], groups, ratios, seed)
    split_of = {image["id"]: split for image, split in zip(images, assigned, strict=True)}
    parts = {}
    for index, split in enumerate(SPLITS):
        if ratios[index] > 0:
            parts[split] = {
                **export.content,
                "images": [image for image in images if split_of[image["id"]] == index],
                "annotations": [a for a in annotations if split_of[a["image_id"]] == index],
            }
    return SplitPlan(export, parts, [size for size in Counter(groups).values() if size > 1])


def _same_scans(export: Export, show_progress: bool) -> list[Hashable]:
    """The group of each image: the scan that it shows; an image that can't be read is a group of its own."""
    paths = [export.image_folder / image["file_name"] for image in export.content["images"]]
    facts = read_facts(paths, show_progress)
    scans = scan_of_digest(facts.values())
    digests = (facts[path].digest for path in paths)
    return [path if digest is None else scans[digest] for path, digest in zip(paths, digests, strict=True)]


def _require_shares(ratios: Sequence[float]) -> None:
    shown = " ".join(f"{ratio:g}" for ratio in ratios)
    if len(ratios) != len(SPLITS):
        raise UserError(
            f"{counted(len(ratios), 'ratio is', 'ratios are')} given: {shown}",
            f"give {len(SPLITS)}: {' '.join(SPLITS)}",
        )
    if not all(math.isfinite(ratio) and ratio >= 0 for ratio in ratios):
        raise UserError(f"the ratios {shown} are not all shares from 0 to 1", "e.g. --ratios 0.7 0.15 0.15")
    if abs(sum(ratios) - 1) > 1e-6:
        raise UserError(f"the ratios {shown} sum to {sum(ratios):g}, not to 1", "e.g. --ratios 0.7 0.15 0.15")
