"""Ids that are no whole numbers: training takes those of images and annotations, and repair numbers them."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from xray_lazy.data.check.entries import SUBJECTS, identity, short
from xray_lazy.data.check.report import Finding
from xray_lazy.data.check.values import as_whole, is_id, is_whole, unused_ids

REFERENCES = {"image_id": "images", "category_id": "categories"}
_Id = int | float | str


class NumberedIds(NamedTuple):
    """A set whose ids are whole numbers, as far as they are ids at all.

    Attributes:
        content: the set; the given lists where there was nothing to do.
        findings: of the ids that were numbered, by their numbers.
        given: by what an id is the id of, the one that the file has for each number.
    """

    content: dict
    findings: list[Finding]
    given: Mapping[str, Mapping[int, _Id]]

    def under_given_ids(self, findings: Iterable[Finding]) -> list[Finding]:
        """Findings by the ids of the file."""
        return [f._replace(id=self.given[f.of].get(f.id, f.id)) if f.of in self.given else f for f in findings]


def number_ids(content: dict) -> NumberedIds:
    """Give each id that is text, a decimal or too large the number that it spells, or a free one where that is taken.

    What refers to an entry goes with it: by exactly its id, as in training, or else by the number that both spell.
    """
    numbers = {name: _numbers(content, name) for name in SUBJECTS}
    spelled = {name: {number for id, number in ids.items() if as_whole(id) == number} for name, ids in numbers.items()}
    lists, findings = dict(content), []
    for name in SUBJECTS:
        fields = {"id": name} | (REFERENCES if name == "annotations" else {})
        missed = _referred(content, name) - numbers[name].keys()  # by training, where the id is a text
        entries = []
        for position, entry in enumerate(content[name]):
            changed, kind = _changed(entry, name, fields, numbers, spelled) if isinstance(entry, dict) else ({}, "")
            entries.append({**entry, **changed} if changed else entry)
            if changed:
                kind = "number_as_text" if changed.get("id") in missed else kind
                detail = ", ".join(f"{field} {short(entry[field])}" for field in changed)
                change = ", ".join(f"{field} {number}" for field, number in changed.items())
                findings.append(Finding(kind, SUBJECTS[name], identity({**entry, **changed}, position), detail, change))
        lists[name] = entries
    given = {
        SUBJECTS[name]: {number: id for id, number in ids.items() if str(id) != str(number)}
        for name, ids in numbers.items()
    }
    return NumberedIds(lists if findings else content, findings, given)


def _changed(
    entry: dict,
    list_name: str,
    fields: Mapping[str, str],
    numbers: Mapping[str, Mapping[_Id, int]],
    spelled: Mapping[str, set[int]],
) -> tuple[dict[str, int], str]:
    """The ids of an entry that become other ones, and the kind of finding that this is."""
    changed, is_mismatch = {}, False
    for field, of in fields.items():
        id = entry.get(field)
        if not is_id(id):
            continue
        number = numbers[of].get(id)
        if number is None and (number := as_whole(id)) not in spelled[of]:
            continue
        if not is_whole(id) or id != number:
            changed[field] = number
            is_mismatch |= id not in numbers[of]
    if list_name == "categories":
        return changed, "class_id_no_number" if as_whole(entry.get("id")) is None else "number_as_text"
    return changed, "number_as_text" if is_mismatch else "id_no_number"


def _referred(content: dict, list_name: str) -> set[int]:
    """The whole numbers by which annotations refer to entries of a list."""
    fields = [field for field, of in REFERENCES.items() if of == list_name]
    return {e[field] for field in fields for e in _entries(content["annotations"]) if is_whole(e.get(field))}


def _numbers(content: dict, list_name: str) -> dict[_Id, int]:
    """The number of each id of a list."""
    ids = list(dict.fromkeys(e["id"] for e in _entries(content[list_name]) if is_id(e.get("id"))))
    spelled = {id: as_whole(id) for id in ids}
    claims = Counter(number for number in spelled.values() if number is not None)
    free = unused_ids(claims.keys() | _referred(content, list_name))
    numbers = {}
    for id in ids:
        number = spelled[id]
        if number is not None and (is_whole(id) or claims[number] == 1):
            numbers[id] = number
        else:
            numbers[id] = next(free)
    return numbers


def _entries(entries: Sequence) -> Iterable[dict]:
    return (entry for entry in entries if isinstance(entry, dict))
