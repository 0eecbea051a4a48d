"""The config of each run: what differs from its base file, between the runs, and all of it."""

import shlex
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from xray_lazy.config.keys import is_within
from xray_lazy.errors import UserError
from xray_lazy.report.blocks import Block, Cell, Heading, Note, Table
from xray_lazy.report.run_files import RunFiles
from xray_lazy.tracking.redaction import settings_without_secrets

ABSENT = "not there"


def settings_blocks(runs: Sequence[RunFiles]) -> list[Block]:
    blocks: list[Block] = []
    configs = {run.name: _flat(run) for run in runs}
    if len(runs) > 1:
        blocks.append(_differences_between(runs, configs))
    for run in runs:
        if len(runs) > 1:
            blocks.append(Heading(run.name))
        blocks += _from_base(run, configs[run.name])
    for run in runs:
        rows = [[Cell(key, code=True), Cell(_text(value), code=True)] for key, value in configs[run.name].items()]
        title = "The whole config" + (f" of {run.name}" if len(runs) > 1 else "")
        if rows:
            blocks.append(Table(title, ["key", "value"], rows, filterable=True, folded=True))
    return blocks


def config_file_of(run: RunFiles) -> Path | None:
    """The file that was named on the command line, found from here or among the configs that come with the package."""
    try:
        words = shlex.split(run.record.get("command") or "")
    except ValueError:
        return None
    named = next((b for a, b in pairwise(words) if a == "--config-file"), None)
    named = named or next((w.partition("=")[2] for w in words if w.startswith("--config-file=")), None)
    if not named:
        return None
    from xray_lazy.config.load import config_folder

    # an installed package has its configs elsewhere than where they lay when it was run from a checkout
    candidates = [Path(named), config_folder().parent / named, config_folder() / named]
    return next((path for path in candidates if path.is_file()), Path(named))


def _from_base(run: RunFiles, config: dict[str, Any]) -> list[Block]:
    base_file = config_file_of(run)
    if not config:
        return [Note("The config can't be shown; the overview says why.", warning=True)]
    if base_file is None:
        return [Note("run.json does not tell which config file was run.")]
    from xray_lazy.config import flatten, load_config

    try:
        base = settings_without_secrets(flatten(load_config(base_file)))
    except (UserError, ImportError) as error:
        reason = getattr(error, "message", error)
        return [Note(f"What differs from {base_file} can't be told: {reason}", "call tools/report.py where it is")]
    overridden = {override.partition("=")[0].lstrip("+~") for override in run.record.get("overrides") or ()}
    rows = [
        [
            Cell(key, code=True),
            Cell("override" if is_within(key, overridden) else "", tone="quiet"),
            Cell(old, code=True),
            Cell(new, code=True),
        ]
        for key, old, new in _differences(base, config)
    ]
    rows.sort(key=lambda row: row[1].text == "")
    title = f"What differs from {base_file.name}"
    if not rows:
        return [Heading(title, "Nothing: the run is what the file says.")]
    text = (
        "Overrides of the command line and what followed from them. What is neither has been changed in the file since "
        "the run: it is read as it is now."
    )
    return [Table(title, ["key", "", "file", "this run"], rows, text, filterable=len(rows) > 12)]


def _differences_between(runs: Sequence[RunFiles], configs: dict[str, dict[str, Any]]) -> Block:
    keys = dict.fromkeys(key for config in configs.values() for key in config)
    rows = []
    for key in keys:
        values = [_text(config[key]) if key in config else ABSENT for config in configs.values()]
        if len(set(values)) > 1 and not _tells_where(key):
            rows.append([Cell(key, code=True), *(Cell(v, code=True, tone=_tone(v)) for v in values)])
    rows.sort(key=lambda row: any(cell.text == ABSENT for cell in row))
    if not rows:
        return Heading("What differs between the runs", "Nothing but their output folders.")
    columns = ["key", *(run.name for run in runs)]
    return Table("What differs between the runs", columns, rows, "Output folders aside.", filterable=len(rows) > 12)


def _tone(value: str) -> str:
    return "quiet" if value == ABSENT else ""


def _tells_where(key: str) -> bool:
    """Keys that follow the output folder, and so differ between any two runs."""
    return key in ("train.output_dir", "writers.json.path", "writers.tensorboard.log_dir", "writers.wandb.directory")


def _flat(run: RunFiles) -> dict[str, Any]:
    if run.config is None:
        return {}
    from xray_lazy.config import flatten

    return settings_without_secrets(flatten(run.config))


def _differences(old: dict[str, Any], new: dict[str, Any]) -> list[tuple[str, str, str]]:
    rows = []
    for key in dict.fromkeys([*old, *new]):
        before, after = (_text(flat[key]) if key in flat else ABSENT for flat in (old, new))
        if before != after:
            rows.append((key, before, after))
    return rows


def _text(value: Any) -> str:
    return value if isinstance(value, str) and value else repr(value)
