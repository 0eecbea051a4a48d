"""Findings, and the report that they make up."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from xray_lazy.data.check.kinds import ERROR, KINDS, SEVERITIES, Kind
from xray_lazy.data.check.raw_images import RawImages
from xray_lazy.utils.wording import counted


class Finding(NamedTuple):
    """One fault of one entry.

    Attributes:
        kind: a key of `KINDS`.
        of: what `id` is the id of: "image", "instance", "class", "entry" (position in its list), "file" or "set".
        id: the entry's id as the JSON has it; `#n` for the entry at position n whose id is no number.
        detail: what is wrong with this one.
        change: what `repair` does about it; empty where it leaves it.
    """

    kind: str
    of: str
    id: Any
    detail: str = ""
    change: str = ""


class Group(NamedTuple):
    """All findings of one kind in one set."""

    kind: str
    findings: list[Finding]

    @property
    def about(self) -> Kind:
        return KINDS[self.kind]


class BagCounts(NamedTuple):
    """How many bags have how many images, and the names of views."""

    bags: dict[int, int]
    views: list[str]

    def summary(self) -> str:
        counts = ", ".join(f"{bags:,} of {counted(images, 'image')}" for images, bags in sorted(self.bags.items()))
        return f"{counts}; views: {', '.join(self.views) or 'not named'}"


@dataclass
class SetReport:
    """The findings of one set.

    Attributes:
        raw: what its images of other than 8-bit colours have in common.
        bags: how many of how many images, and their views, where images name their bags.
    """

    name: str
    json_file: str | None
    images_dir: str | None
    images: int
    instances: int
    classes: int
    raw: RawImages | None = None
    bags: BagCounts | None = None
    findings: list[Finding] = field(default_factory=list)

    def groups(self) -> list[Group]:
        """The findings by kind, the worst first."""
        return group_findings(self.findings)


@dataclass
class Report:
    """The findings of all sets that were checked together."""

    sets: list[SetReport]

    @property
    def trainable(self) -> bool:
        """Whether there is no error in any set."""
        return not self.count(ERROR)

    def count(self, severity: str) -> int:
        """How many findings have this severity."""
        return sum(KINDS[finding.kind].severity == severity for one in self.sets for finding in one.findings)

    def as_json(self) -> dict:
        """The whole report as plain lists and dicts."""
        return {
            "trainable": self.trainable,
            "counts": {severity: self.count(severity) for severity in SEVERITIES},
            "sets": [_set_as_json(one) for one in self.sets],
        }


def group_findings(findings: Iterable[Finding]) -> list[Group]:
    """Findings by kind: errors, warnings, notes, and in each the order of `KINDS`."""
    by_kind: dict[str, list[Finding]] = {}
    for finding in findings:
        by_kind.setdefault(finding.kind, []).append(finding)
    order = {kind: (SEVERITIES.index(about.severity), rank) for rank, (kind, about) in enumerate(KINDS.items())}
    return [Group(kind, by_kind[kind]) for kind in sorted(by_kind, key=order.__getitem__)]


def _set_as_json(one: SetReport) -> dict:
    faults = [
        {
            "kind": group.kind,
            "severity": group.about.severity,
            "title": group.about.title,
            "fix": group.about.fix,
            "count": len(group.findings),
            "items": [{"of": f.of, "id": f.id, "detail": f.detail, "repair": f.change} for f in group.findings],
        }
        for group in one.groups()
    ]
    return {
        "name": one.name,
        "json_file": one.json_file,
        "images_dir": one.images_dir,
        "pictures": one.images,
        "instances": one.instances,
        "classes": one.classes,
        "raw": one.raw and asdict(one.raw),
        "bags": one.bags and one.bags._asdict(),
        "faults": faults,
    }
