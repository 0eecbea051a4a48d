"""First look at the three lists: entries that are no objects, and numbers in odd spelling."""

from xray_lazy.data.check.report import Finding
from xray_lazy.data.check.values import as_number, as_whole, is_id
from xray_lazy.data.coco_file import Repeated, repeated_keys

WHOLE_FIELDS = {
    "images": ("id", "width", "height"),
    "annotations": ("id", "image_id", "category_id", "iscrowd"),
    "categories": ("id",),
}
SUBJECTS = {"images": "image", "annotations": "instance", "categories": "class"}


def examine_entries(content: dict, list_name: str) -> tuple[list[dict], list[Finding]]:
    """The entries of one list that are objects, with their numbers as numbers; the given ones stay as they are."""
    entries, findings = [], []
    for position, entry in enumerate(content[list_name]):
        if not isinstance(entry, dict):
            findings.append(Finding("not_an_entry", "entry", f"{list_name}#{position}", short(entry), "dropped"))
            continue
        numbers = _respelled(entry, list_name)
        if numbers:
            detail = ", ".join(f"{name} {short(entry[name])}" for name in numbers)
            change = ", ".join(f"{name} {short(value)}" for name, value in numbers.items())
            subject, name = SUBJECTS[list_name], identity({**entry, **numbers}, position)
            findings.append(Finding("number_as_text", subject, name, detail, change))
            entry = {**entry, **numbers}
        entries.append(entry)
    return entries, findings


def examine_keys(content: dict, repeated: Repeated) -> list[Finding]:
    """Entries that give a key several times."""
    return [
        Finding("repeated_key", SUBJECTS[name], identity(entry, position), ", ".join(keys), "the last one is kept")
        for name in SUBJECTS
        for position, entry in enumerate(content[name])
        if isinstance(entry, dict) and (keys := repeated_keys(entry, repeated))
    ]


def identity(entry: dict, position: int) -> int | str:
    """The entry's id, or `#position` where it has none."""
    id = entry.get("id")
    if not is_id(id):
        return f"#{position}"
    return int(id) if isinstance(id, float) else id


def _respelled(entry: dict, list_name: str) -> dict:
    """The fields that spell a number without being one, with that number."""
    numbers = {}
    for name in WHOLE_FIELDS[list_name]:
        value = entry.get(name)
        if isinstance(value, str | float) and (number := as_whole(value)) is not None:
            numbers[name] = number
    if list_name == "annotations":
        if (area := as_number(entry.get("area"))) is not None:
            numbers["area"] = area
        box = entry.get("bbox")
        if isinstance(box, list) and any(as_number(value) is not None for value in box):
            numbers["bbox"] = [value if as_number(value) is None else as_number(value) for value in box]
    return numbers


def short(value: object) -> str:
    """A value as text of 60 characters at most."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
