"""Reports for the terminal: one compact line per kind of fault, with its first ids and its fix."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from xray_lazy.data.check.kinds import ERROR, NOTE, SEVERITIES, WARNING
from xray_lazy.data.check.raw_images import RawImages
from xray_lazy.data.check.report import Finding, Group, Report, SetReport, group_findings
from xray_lazy.utils.terminal import table_console
from xray_lazy.utils.wording import counted, printable, tool_command

FIRST_IDS = 10
_COLOURS = {ERROR: "bold red", WARNING: "yellow", NOTE: "cyan"}
_PLURALS = {"class": "classes", "entry": "entries"}


def print_report(report: Report) -> None:
    """Print every set's faults, the worst first, and whether the sets can be trained on."""
    console = table_console()
    for one in report.sets:
        _print_heading(console, one)
        if one.bags:
            console.print(f"  bags: {printable(one.bags.summary())}", soft_wrap=True, highlight=False, markup=False)
        if one.raw:
            _print_raw(console, one.raw)
        if one.findings:
            console.print(_table(one.groups(), show_fix=True))
        else:
            console.print("  no faults", style="green")
        console.print()
    console.print(_verdict(report))
    for one in report.sets:
        if fixable := sum(bool(finding.change) for finding in one.findings):
            folder = [one.images_dir] if one.images_dir else []
            command = tool_command("dataset", "repair", one.json_file, *folder, "--output", "NEW.json")
            console.print(f"{_counted(fixable, 'finding')} of {one.name} can be repaired:")
            console.print(f"  {command}", soft_wrap=True)


def print_changes(changes: Sequence[Finding]) -> None:
    """Print what repair did, by kind of fault."""
    console = table_console()
    if not changes:
        console.print("nothing to repair", style="green")
        return
    console.print(_counted(len(changes), "change"), style="bold")
    console.print(_table(group_findings(changes), show_fix=False))


def print_left(report: Report) -> None:
    """Print what a repaired set still has: errors and warnings in full, then whether it can be trained on."""
    console = table_console()
    groups = [group for one in report.sets for group in one.groups() if group.about.severity != NOTE]
    if groups:
        console.print("left for you", style="bold")
        console.print(_table(groups, show_fix=True))
    console.print(_verdict(report))


def _print_heading(console: Console, one: SetReport) -> None:
    counts = ", ".join(
        _counted(number, noun)
        for number, noun in ((one.images, "image"), (one.instances, "instance"), (one.classes, "class"))
    )
    console.print(Text.assemble((one.name, "bold"), f"  {counts}"), soft_wrap=True)


def _print_raw(console: Console, raw: RawImages) -> None:
    console.print(f"  raw images: {raw.summary()}", soft_wrap=True, highlight=False)
    if raw.overrides:
        of = f"window and statistics of {_counted(raw.measured, 'image')}"
        console.print(
            f"  for a config ({of}): {' '.join(raw.overrides)}", soft_wrap=True, highlight=False, markup=False
        )
    else:
        console.print("  they have different numbers of channels, and a config reads one: make sets of each")


def _table(groups: Sequence[Group], show_fix: bool) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(width=9, justify="right")
    table.add_column(justify="right")
    table.add_column(overflow="fold")
    for group in groups:
        severity, title, fix = group.about
        lines = [Text(title, style="bold"), Text(_which(group.findings))]
        first = group.findings[0]
        if example := _example(first, show_change=not show_fix):
            lines.append(Text(example, style="dim"))
        if show_fix:
            # a note asks for nothing, so its text is no fix
            lines.append(Text(fix if severity == NOTE else f"fix: {fix}", style="green"))
        table.add_row(
            Text(severity, style=_COLOURS[severity]),
            f"{len(group.findings)}",
            Text("\n").join(line for line in lines if line.plain),
        )
    return table


def _which(findings: Sequence[Finding]) -> str:
    """The ids of findings, by what they are the ids of."""
    named = dict.fromkeys((finding.of, finding.id) for finding in findings if finding.id is not None)
    shown = [_ids(noun, [id for of, id in named if of == noun]) for noun in dict.fromkeys(of for of, _ in named)]
    return "; ".join(shown)


def _ids(noun: str, ids: Sequence) -> str:
    more = f" ... and {len(ids) - FIRST_IDS} more" if len(ids) > FIRST_IDS else ""
    shown = ", ".join(printable(str(id)) for id in ids[:FIRST_IDS])
    return f"{noun if len(ids) == 1 else _plural(noun)} {shown}{more}"


def _example(finding: Finding, show_change: bool) -> str:
    text = printable(finding.detail or "")
    if show_change and finding.change:
        text = f"{text} -> {printable(finding.change)}" if text else printable(finding.change)
    if not text or finding.id is None:
        return text
    return f"e.g. {printable(str(finding.id))}: {text}"


def _verdict(report: Report) -> Text:
    counts = ", ".join(_counted(report.count(severity), severity) for severity in SEVERITIES)
    subject = "the set" if len(report.sets) == 1 else "the sets"
    if report.trainable:
        return Text.assemble((f"{subject} can be trained on", "bold green"), f": {counts}")
    return Text.assemble((f"{subject} can't be trained on", "bold red"), f": {counts}")


def _counted(number: int, noun: str) -> str:
    return counted(number, noun, _plural(noun))


def _plural(noun: str) -> str:
    return _PLURALS.get(noun, f"{noun}s")
