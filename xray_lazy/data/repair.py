"""Repair what is wrong with a COCO set and needs no guess; every change is told, and the input stays as it is."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from xray_lazy.data.bag_names import named_fields
from xray_lazy.data.check.checked_sets import examine, read_set_images, report_set
from xray_lazy.data.check.coco_set import CocoSet, other_format
from xray_lazy.data.check.image_facts import ImageFacts
from xray_lazy.data.check.images import ImageRules
from xray_lazy.data.check.neighbours import with_copies_merged
from xray_lazy.data.check.report import Finding, Report
from xray_lazy.errors import UserError
from xray_lazy.utils.atomic_file import write_json
from xray_lazy.utils.results_place import check_json_file

# One change can uncover another (an annotation goes, and its image's second entry is spare), a few times at most.
_MOST_PASSES = 20


@dataclass(frozen=True)
class Repaired:
    """A repaired set.

    Attributes:
        content: the new content; equal to the old where there was nothing to do.
        changes: the findings that were repaired, each with its `change`.
        left: what a check of the new content still finds.
    """

    content: dict
    changes: list[Finding]
    left: Report


def repair(
    one: CocoSet,
    size: tuple[int, int] | None = None,
    drop_unreadable: bool = False,
    facts: Mapping[Path, ImageFacts] | None = None,
    show_progress: bool = False,
    merge_copies: bool = False,
) -> Repaired:
    """Repair one set; repairing the result again changes nothing.

    Args:
        one: the set; with its folder, sizes come from the files.
        size: (width, height) of images that have no size and no readable file, e.g. from `SCANNER_SIZES`.
        drop_unreadable: leave out images that are missing or can't be read, and their annotations.
        facts: what is known of the files; read from the folder where not given.
        show_progress: draw a progress bar on stderr while images are read.
        merge_copies: one image for all files of the same pixels, with the annotations of all.
    """
    if facts is None:
        facts = read_set_images([one], show_progress)
    rules = ImageRules(size, drop_unreadable)
    changes: list[Finding] = []
    for _ in range(_MOST_PASSES):
        examined = examine(one, facts, rules)
        found = [finding for finding in examined.findings if finding.change]
        if not found and merge_copies:
            (one, merged), merge_copies = with_copies_merged(one, facts), False
            changes += merged
            continue
        if not found:
            return Repaired(one.content, changes, Report([report_set(one, examined.findings)]))
        changes += found
        one = CocoSet(one.name, examined.content, one.images_dir, one.json_file)
    raise RuntimeError(f"repair of {one.name} does not settle; still changing: {found[:3]}")


def name_bags(repaired: Repaired, group_by: str) -> Repaired:
    """With `bag` and `view` of each image, by the first and second group of a regular expression in its file name.

    Raises:
        UserError: the expression does not fit, or has not two groups.
    """
    images = repaired.content["images"]
    fields = named_fields([str(image["file_name"]) for image in images], group_by)
    if not all(fields):
        raise UserError(
            f"--group-by {group_by} tells no views: it has not two groups",
            "the first is the bag, the second the view: '^(.+)_([^_]+)[.]'",
        )
    named = [image | own for image, own in zip(images, fields, strict=True)]
    return replace(repaired, content={**repaired.content, "images": named})


def check_targets(
    annotations: str, output: str | None, changes: str | None, overwrite: bool = False, dry_run: bool = False
) -> None:
    """See to it that the files to write are named, and are not the input or some other file.

    Raises:
        UserError: one is missing, is the input, or is there already and `overwrite` is off.
    """
    if dry_run:
        return
    if not output:
        raise UserError("repair writes a new file, and none is named", "give --output NEW.json, or --dry-run")
    for target in (path for path in (output, changes) if path):
        if os.path.exists(target) and os.path.exists(annotations) and os.path.samefile(target, annotations):
            raise UserError(f"{target} is the input, which stays as it is", "give another name for the new file")
        if os.path.exists(target) and not overwrite:
            raise UserError(f"{target} is there already", "give another name, or --overwrite")
    check_json_file(output, "a COCO file", "images", "annotations")
    if changes:
        check_json_file(changes, "a list of changes", "kind", "change")
    if changes and os.path.abspath(changes) == os.path.abspath(output):
        raise UserError(f"--output and --changes are both {output}", "give each a name of its own")


def refuse_nothing(one: CocoSet, repaired: Repaired) -> None:
    """See to it that something is left of a set.

    Raises:
        UserError: repair leaves no image, or none of the annotations.
    """
    left = repaired.content
    if left["images"] and (left["annotations"] or not one.content["annotations"]):
        return
    what = "annotation" if left["images"] else "image"
    reason = other_format(one.content) or ("" if one.content["categories"] else "the list `categories` is empty")
    raise UserError(
        f"repair would leave no {what} of {one.name}" + (f": {reason}" if reason else ""),
        "nothing is written; `tools/dataset.py check` tells what is wrong: export the set again as COCO instances",
    )


def write_repaired(repaired: Repaired, output: str, changes: str | None = None) -> None:
    """Write the new COCO file, and the list of changes where wanted."""
    write_json(output, repaired.content)
    if changes:
        write_json(changes, [change._asdict() for change in repaired.changes], indent=2)
