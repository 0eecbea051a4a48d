"""Check one set by itself, and several beside each other."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from xray_lazy.data.check.bag_views import bags_in_two_sets, count_bags, examine_bags
from xray_lazy.data.check.classes import Classes, examine_classes
from xray_lazy.data.check.coco_set import CocoSet, other_format
from xray_lazy.data.check.entries import examine_entries, examine_keys
from xray_lazy.data.check.file_names import right_names
from xray_lazy.data.check.ids import number_ids
from xray_lazy.data.check.image_facts import ImageFacts, read_facts
from xray_lazy.data.check.images import ImageRules, examine_images, image_path
from xray_lazy.data.check.instances import examine_instances
from xray_lazy.data.check.neighbours import (
    class_names,
    compare_sets,
    duplicates_within,
    near_duplicates,
    unlisted_files,
)
from xray_lazy.data.check.raw_images import raw_images
from xray_lazy.data.check.report import Finding, Report, SetReport
from xray_lazy.data.check.values import is_whole
from xray_lazy.data.dataset_places import SPLITS
from xray_lazy.data.likely_reader import other_energies
from xray_lazy.utils.wording import counted

Facts = Mapping[Path, ImageFacts]


@dataclass(frozen=True)
class Examined:
    """One set looked at: what was found, and its content after one pass of repair."""

    content: dict
    findings: list[Finding]


def check_sets(sets: Sequence[CocoSet], read_images: bool = True, show_progress: bool = False) -> Report:
    """Find every fault of one or more sets; none of them is changed.

    Args:
        sets: what to check; images that are in two of them are reported as a leak.
        read_images: read every image file; False looks at the JSON alone.
        show_progress: draw a progress bar on stderr while images are read.
    """
    facts = read_set_images(sets, show_progress) if read_images else {}
    reports = [report_set(one, examine(one, facts).findings) for one in sets]
    for one, report in zip(sets, reports, strict=True):
        report.raw = raw_images(
            [(path, raw) for path in listed_files(one) if path in facts and (raw := facts[path].raw)]
        )
        is_told = any(finding.kind == "picture_dark" for finding in report.findings)
        if report.raw and report.raw.unused > 0 and not is_told:
            report.findings.append(Finding("bits_unused", "set", None, report.raw.summary()))
        report.findings += duplicates_within(one, facts) + examine_bags(one)
        report.bags = count_bags(one)
    _excuse_classes(sets, reports)
    for position, finding in (*compare_sets(sets, facts), *near_duplicates(sets, facts), *bags_in_two_sets(sets)):
        reports[position].findings.append(finding)
    if read_images:
        named = [path for one in sets for path in _renamed_files(one, facts)]
        named += [file for path in facts for _, _, file in other_energies(path)]
        for position, finding in unlisted_files(sets, set(map(os.path.abspath, named))):
            reports[position].findings.append(finding)
    return Report(reports)


def _excuse_classes(sets: Sequence[CocoSet], reports: Sequence[SetReport]) -> None:
    """Classes that another of the sets trains, or that a set for evaluation lacks, are no error."""
    untrained = [{f.detail for f in report.findings if f.kind == "class_not_trained"} for report in reports]
    trained = set()
    for one, names in zip(sets, untrained, strict=True):
        trained |= class_names(one) - names
    for one, report in zip(sets, reports, strict=True):
        is_evaluated = one.json_file is not None and one.json_file.stem.partition("_")[0] in SPLITS[1:]
        report.findings = [
            f._replace(kind="class_without_instances")
            if f.kind == "class_not_trained" and (is_evaluated or f.detail in trained)
            else f
            for f in report.findings
        ]


def read_set_images(sets: Sequence[CocoSet], show_progress: bool = False) -> dict[Path, ImageFacts]:
    """The facts of all images that the sets list."""
    facts = read_facts((path for one in sets for path in listed_files(one)), show_progress)
    renamed = (path for one in sets for path in _renamed_files(one, facts))
    return facts | read_facts((path for path in renamed if path not in facts), show_progress)


def listed_files(one: CocoSet) -> list[Path]:
    """The files that a set names, where their folder is known."""
    folder, images = one.images_dir, (image for image in one.content["images"] if isinstance(image, dict))
    return [path for image in images if (path := image_path(folder, image))] if folder is not None else []


def _renamed_files(one: CocoSet, facts: Facts) -> list[Path]:
    folder = one.images_dir
    return [folder / name for name in _new_names(one, facts).values()] if folder else []


def _new_names(one: CocoSet, facts: Facts) -> dict[str, str]:
    """The right names of the set's files that are there under another one than it gives them."""
    if one.images_dir is None:
        return {}
    paths = {}
    for image in one.content["images"]:
        if isinstance(image, dict) and (path := image_path(one.images_dir, image)):
            paths[image["file_name"]] = path
    known = {name: facts[path].fault for name, path in paths.items() if path in facts}
    found = right_names(one.images_dir, (name for name, fault in known.items() if fault == "picture_missing"))
    taken = {os.path.abspath(path) for name, path in paths.items() if known.get(name) != "picture_missing"}
    return {name: file for name, file in found.items() if os.path.abspath(one.images_dir / file) not in taken}


def examine(one: CocoSet, facts: Facts, rules: ImageRules | None = None) -> Examined:
    """Look at everything in one set, and say what repair would leave of it."""
    ids = number_ids(one.content)
    images, image_findings = examine_entries(ids.content, "images")
    annotations, annotation_findings = examine_entries(ids.content, "annotations")
    categories, category_findings = examine_entries(ids.content, "categories")
    classes = examine_classes(categories, annotations)
    looked_at = examine_images(
        images, annotations, one.images_dir, facts, rules or ImageRules(), _new_names(one, facts)
    )
    instances = examine_instances(annotations, looked_at, classes)
    if classes.is_shifted:  # said once, of the set
        instances.findings[:] = [f for f in instances.findings if f.kind != "undeclared_class"]
    findings = examine_keys(one.content, one.repeated)
    findings += image_findings + annotation_findings + category_findings
    if other := other_format(one.content):
        findings.append(Finding("other_format", "set", None, other))
    findings += classes.findings + looked_at.findings + instances.findings
    findings += _untrained(instances.entries, classes) if annotations and not classes.is_shifted else []
    annotated = {entry["image_id"] for entry in instances.entries if is_whole(entry.get("image_id"))}
    findings += [
        Finding("picture_without_annotations", "image", entry["id"], str(entry.get("file_name")))
        for entry in looked_at.entries
        if is_whole(entry.get("id")) and entry["id"] not in annotated
    ]
    repaired = {"images": looked_at.entries, "annotations": instances.entries, "categories": classes.entries}
    return Examined({**one.content, **repaired}, ids.under_given_ids(ids.findings + findings))


def _untrained(entries: list[dict], classes: Classes) -> list[Finding]:
    """What the annotations that repair leaves give training no instance of: the set, or classes of it."""
    trained = Counter(e["category_id"] for e in entries if is_whole(e.get("category_id")) and not e.get("iscrowd"))
    if not trained:
        crowds = sum(bool(entry.get("iscrowd")) for entry in entries)
        only_crowds = crowds and crowds == len(entries)
        detail = f"only {counted(crowds, 'crowd region')}" if only_crowds else "none of them is usable"
        return [Finding("nothing_to_train", "set", None, detail)]
    old_ids = {new: old for old, new in reversed(classes.new_ids.items())}
    return [
        Finding(
            "class_not_trained",
            "class",
            old_ids.get(entry["id"], entry["id"]),
            str(entry.get("name")),
        )
        for entry in classes.entries
        if is_whole(entry.get("id")) and entry["id"] in old_ids and not trained[entry["id"]]
    ]


def report_set(one: CocoSet, findings: Sequence[Finding]) -> SetReport:
    """The findings under the set's name and numbers."""
    images, annotations, categories = (len(one.content[name]) for name in ("images", "annotations", "categories"))
    folder = _text(one.images_dir)
    return SetReport(one.name, _text(one.json_file), folder, images, annotations, categories, findings=list(findings))


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
