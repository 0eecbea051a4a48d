"""The classes of a set: their ids, their names, and which id each of them should have."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field

from xray_lazy.data.check.entries import identity
from xray_lazy.data.check.report import Finding
from xray_lazy.data.check.values import class_name, is_odd_name, is_whole


@dataclass
class Classes:
    """The examined list `categories`.

    Attributes:
        entries: the list after repair.
        new_ids: the repaired id of each declared id.
        complete: whether every entry has an id, so that an unknown id is truly undeclared.
        nameless: the ids that are declared without a name.
        is_shifted: the annotations' ids are all declared only with 1 more or less: none of them means what it says.
    """

    entries: list[dict]
    new_ids: dict[int, int]
    complete: bool
    findings: list[Finding] = field(default_factory=list)
    is_shifted: bool = False
    nameless: frozenset[int] = frozenset()


def examine_classes(categories: list[dict], annotations: list[dict]) -> Classes:
    """Look at the classes; `annotations` tell how often each is used."""
    used = Counter(a["category_id"] for a in annotations if is_whole(a.get("category_id")))
    sound, broken, findings = [], [], []
    for position, category in enumerate(categories):
        name = class_name(category.get("name"))
        if is_whole(category.get("id")) and name:
            if name != category["name"]:
                detail = repr(category["name"])
                findings.append(Finding("class_name_no_text", "class", category["id"], detail, f"name {name!r}"))
            if is_odd_name(name):
                findings.append(Finding("class_name_odd", "class", category["id"], repr(name)))
            sound.append(category if name == category["name"] else {**category, "name": name})
        else:
            detail = f"id {category.get('id')!r}, name {category.get('name')!r}"
            findings.append(Finding("class_fields", "class", identity(category, position), detail))
            broken.append(category)
    if shift := class_shift({category["id"] for category in sound}, used):
        ids = {category["id"]: category["id"] for category in sound}
        detail = f"annotations use {min(used)} to {max(used)}, `categories` declares {min(ids)} to {max(ids)}"
        findings.append(Finding("class_ids_shifted", "set", None, f"{detail}: 1 too {'low' if shift > 0 else 'high'}"))
        return Classes(sound + broken, ids, False, findings, is_shifted=True)
    sound, same_ids = _unique_ids(sound)
    sound, joined, same_names = _unique_names(sound, used)
    findings += same_ids + same_names + _similar_names(sound)
    ranks, gaps = _ranks(sound, broken)
    new_ids = {old: ranks[first] for old, first in joined.items()}
    entries = [{**c, "id": ranks[c["id"]]} if ranks[c["id"]] != c["id"] else c for c in sound]
    if not entries and not broken:
        findings.append(Finding("no_classes", "set", None))
    nameless = frozenset(category["id"] for category in broken if is_whole(category.get("id")))
    return Classes(entries + broken, new_ids, not broken, findings + gaps, nameless=nameless)


def class_shift(declared: Collection[int], used: Collection[int]) -> int:
    """What to add to the class ids of annotations so that all of them are declared, where some are not; else 0."""
    if set(used) <= set(declared):
        return 0
    return next((shift for shift in (1, -1) if {number + shift for number in used} <= set(declared)), 0)


def _unique_ids(categories: list[dict]) -> tuple[list[dict], list[Finding]]:
    """Drop copies: the same id and name again. Other names under one id are left to the person."""
    kept, findings, names, seen = [], [], {}, set()
    for category in categories:
        id, name = category["id"], category["name"]
        first = names.setdefault(id, name)
        if (id, name) in seen:
            findings.append(Finding("duplicate_class_id", "class", id, name, "dropped"))
            continue
        if first != name:
            findings.append(Finding("duplicate_class_id", "class", id, f"{first!r} and {name!r}"))
        seen.add((id, name))
        kept.append(category)
    return kept, findings


def _unique_names(categories: list[dict], used: Counter) -> tuple[list[dict], dict[int, int], list[Finding]]:
    """Join classes of one name. Returns the kept ones, the id that each id becomes, and the findings."""
    ambiguous = {id for id, count in Counter(c["id"] for c in categories).items() if count > 1}
    kept, findings, firsts = [], [], {}
    joined = {category["id"]: category["id"] for category in categories}
    for category in categories:
        name, id = category["name"], category["id"]
        first = firsts.setdefault(name, id)
        if first == id:
            kept.append(category)
        elif id in ambiguous or first in ambiguous:
            findings.append(Finding("duplicate_class_name", "class", id, f"{name!r}, also id {first}"))
            kept.append(category)
        else:
            change = f"joined with id {first}, with {used[id]} annotations"
            findings.append(Finding("duplicate_class_name", "class", id, f"{name!r}, also id {first}", change))
            joined[id] = first
    return kept, joined, findings


def _similar_names(categories: list[dict]) -> list[Finding]:
    spellings: dict[str, dict] = {}
    findings = []
    for category in categories:
        first = spellings.setdefault(" ".join(category["name"].casefold().split()), category)
        if first["name"] != category["name"]:
            detail = f"{category['name']!r} and {first['name']!r} (id {first['id']})"
            findings.append(Finding("similar_class_names", "class", category["id"], detail))
    return findings


def _ranks(categories: list[dict], broken: list[dict]) -> tuple[dict[int, int], list[Finding]]:
    """The id that each kept id becomes: itself where they already run from 0 or 1."""
    ids = sorted({category["id"] for category in categories})
    if broken or ids in (list(range(len(ids))), list(range(1, len(ids) + 1))):
        # with a class among them that has no id or name, numbering anew could give its id to another one
        return {id: id for id in ids}, []
    ranks = {id: rank for rank, id in enumerate(ids, start=1)}
    names = {category["id"]: category["name"] for category in categories}
    moved = [
        Finding("class_id_no_number" if old < 0 else "class_id_gap", "class", old, names[old], f"id {new}")
        for old, new in ranks.items()
        if old != new
    ]
    return ranks, moved
