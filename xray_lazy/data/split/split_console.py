"""The summary of a split for the terminal: images and instances of each class, by split."""

from collections import Counter, defaultdict

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from xray_lazy.data.split.plan import SplitPlan
from xray_lazy.utils.terminal import table_console
from xray_lazy.utils.wording import counted, printable


def print_plan(plan: SplitPlan) -> None:
    """Print one scanner's table, and which classes are missing from a split."""
    console = table_console()
    console.print(split_table(plan))
    if plan.groups:
        console.print(f"  {counted(sum(plan.groups), 'image')} kept together in {counted(len(plan.groups), 'group')}")
    for line in _gaps(plan):
        console.print(Text(f"  {line}", style="yellow"))


def split_table(plan: SplitPlan) -> Table:
    """Counts with their share in percent; rows are images, images without instances, instances and each class."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column(Text(plan.export.scanner))
    for split in (*plan.parts, "all"):
        table.add_column(split, justify="right")
    parts = plan.parts.values()
    images = [len(part["images"]) for part in parts]
    instances = [Counter(a["category_id"] for a in part["annotations"]) for part in parts]
    filled = [len({a["image_id"] for a in part["annotations"]}) for part in parts]
    table.add_row(*_row("images", images))
    table.add_row(*_row("  empty", [all_ - some for all_, some in zip(images, filled, strict=True)]))
    table.add_row(*_row("instances", [sum(counts.values()) for counts in instances]))
    for category in plan.export.content["categories"]:
        table.add_row(*_row(f"  {_name(category)}", [counts[category["id"]] for counts in instances]))
    return table


def _name(category: dict) -> str:
    return printable(str(category.get("name", category["id"])))


def _row(title: str, counts: list[int]) -> list[Text]:
    total = sum(counts)
    shares = [f"{count / total:5.0%}" if total else "" for count in counts]
    cells = [Text.assemble(str(count), (share, "dim")) for count, share in zip(counts, shares, strict=True)]
    return [Text(title), *cells, Text(str(total))]


def _gaps(plan: SplitPlan) -> list[str]:
    """One line for each class that has instances but not in every split."""
    images = defaultdict(lambda: defaultdict(set))
    for split, part in plan.parts.items():
        for annotation in part["annotations"]:
            images[annotation["category_id"]][split].add(annotation["image_id"])
    lines = []
    for category in plan.export.content["categories"]:
        found = images.get(category["id"], {})
        absent = [split for split in plan.parts if found and split not in found]
        if absent:
            number = sum(map(len, found.values()))
            have = f"{counted(number, 'image')} {'has' if number == 1 else 'have'} it in all"
            lines.append(f"no {_name(category)} in {' and '.join(absent)}: {have}")
    return lines
