"""What a run was started with: command, code, machine, packages, and each of its starts."""

import json
from collections.abc import Sequence
from typing import Any

from xray_lazy.report.blocks import Block, Cell, Code, Note, Table
from xray_lazy.report.readable_numbers import NOTHING
from xray_lazy.report.run_files import RunFiles
from xray_lazy.tracking.redaction import settings_without_secrets, without_secrets

SHORT_COMMIT = 10


def environment_blocks(runs: Sequence[RunFiles]) -> list[Block]:
    if not any(run.record for run in runs):
        return [Note("There is no run.json, which tells of the environment.")]
    records = [settings_without_secrets(run.record) for run in runs]
    names = [run.name for run in runs] if len(runs) > 1 else [""]
    blocks: list[Block] = [
        Code("Command" + (f" of {run.name}" if len(runs) > 1 else ""), without_secrets(record["command"]))
        for run, record in zip(runs, records, strict=True)
        if record.get("command")
    ]
    blocks.append(Table("Run", ["", *names], _rows([_facts(record) for record in records])))
    for run, record in zip(runs, records, strict=True):
        starts = record.get("starts") or []
        if len(starts) > 1:
            title = "Starts" + (f" of {run.name}" if len(runs) > 1 else "")
            blocks.append(Table(title, ["time", "from iteration", "host", "processes", "commit"], _starts(starts)))
    versions = [{k: v or "not installed" for k, v in (record.get("versions") or {}).items()} for record in records]
    blocks.append(Table("Packages", ["", *names], _rows(versions)))
    return blocks


def _facts(record: dict[str, Any]) -> dict[str, str]:
    git = record.get("git") or {}
    facts = {
        "started": record.get("start_time"),
        "host": record.get("host"),
        "devices": "; ".join(record.get("devices") or ()),
        "processes": record.get("world_size"),
        **{str(name): value for name, value in (record.get("machine") or {}).items()},
        "seed": record.get("seed"),
        "commit": git.get("commit"),
        "branch": git.get("branch"),
        "remote": git.get("remote"),
        "uncommitted changes": _changes(git),
        "W&B run": record.get("wandb_id"),
        "output folder": record.get("output_dir"),
    }
    return {name: _text(value) for name, value in facts.items() if value not in (None, "", {}, [])}


def _changes(git: dict[str, Any]) -> str | None:
    if "dirty" not in git:
        return None
    return f"yes, in {git['diff']}" if git.get("diff") else "yes" if git["dirty"] else "none"


def _starts(starts: Sequence[dict[str, Any]]) -> list[list[Cell]]:
    return [
        [
            Cell(_text(start.get("start_time"))),
            Cell(_text(start.get("start_iteration")), start.get("start_iteration")),
            Cell(_text(start.get("host"))),
            Cell(_text(start.get("world_size")), start.get("world_size")),
            Cell(_text((start.get("git") or {}).get("commit"))[:SHORT_COMMIT], code=True),
        ]
        for start in starts
    ]


def _rows(facts: Sequence[dict[str, str]]) -> list[list[Cell]]:
    names = dict.fromkeys(name for record in facts for name in record)
    rows = []
    for name in names:
        values = [record.get(name, NOTHING) for record in facts]
        rows.append([Cell(name), *(Cell(value, code=name in ("commit", "output folder")) for value in values)])
    return rows


def _text(value: Any) -> str:
    if value is None:
        return NOTHING
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
