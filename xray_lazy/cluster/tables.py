"""Tables of jobs on the terminal: planned, submitted, and how they fare."""

import datetime
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from xray_lazy.cluster.cluster_profile import Profile
from xray_lazy.cluster.job_record import JobRecord
from xray_lazy.cluster.planning import PlannedJob
from xray_lazy.cluster.requeue import time_limit_warnings
from xray_lazy.cluster.status import JobStatus

COLORS = {"running": "green", "finished": "blue", "failed": "red", "cancelled": "yellow", "stopped": "yellow"}


def print_plan(jobs: Sequence[PlannedJob]) -> None:
    """What would be submitted: one line a job."""
    table = _table("job", "output folder", "overrides")
    for number, job in enumerate(jobs, 1):
        table.add_row(str(number), escape(shown_path(job.output_dir)), escape(" ".join(job.overrides)))
    _console().print(table)


def print_request(jobs: int, profile: Profile) -> None:
    """What a number of jobs ask for, and what there is to know about it."""
    console = _console()
    console.print(escape(_request(profile, jobs)), soft_wrap=True)
    if profile.minutes:
        for warning in time_limit_warnings(profile.minutes, profile.signal_delay):
            print(f"warning: {warning}", file=sys.stderr)
    if profile.executor == "local" and jobs > 1:
        at_once = max(1, profile.max_parallel)
        console.print(f"{at_once} at once run on this machine; this command stays until the last one has started")


def print_submitted(records: Sequence[JobRecord]) -> None:
    """The ids of jobs that were submitted, and what to type next."""
    table = _table("job", "output folder")
    for record in records:
        table.add_row(record.job_id, escape(shown_path(record.output_dir) + _kind(record)))
    console = _console()
    console.print(table)
    if records[0].executor == "debug":
        return
    folders = shlex.join(dict.fromkeys(shown_path(Path(record.logs).parent) for record in records))
    console.print(f"code      {escape(shown_path(records[0].code) if records[0].code else 'of the installed package')}")
    console.print(f"logs      {escape(shown_path(records[0].logs))}")
    console.print(f"status    python tools/submit.py status {escape(folders)}", soft_wrap=True)


def print_statuses(statuses: Sequence[JobStatus]) -> None:
    """One line a job, and below the table why jobs failed."""
    table = _table("job", "output folder", "state", "iteration", "left", "metrics")
    for status in statuses:
        color = COLORS.get(status.state, "default")
        record = status.record
        # reasons of failures are below, with their logs
        reason = f": {status.reason}" if status.reason and status.state != "failed" else ""
        table.add_row(
            record.job_id,
            escape(shown_path(record.output_dir) + _kind(record)),
            f"[{color}]{status.state}[/]{escape(reason)}",
            _iterations(status),
            "" if status.eta_seconds is None else str(datetime.timedelta(seconds=round(status.eta_seconds))),
            "  ".join(f"{name} {value:.4g}" for name, value in status.metrics.items()),
        )
    console = _console()
    console.print(table)
    for status in statuses:
        if status.state == "failed":
            print_failure(status, console)


def print_failure(status: JobStatus, console: Console | None = None) -> None:
    """Why a job failed, what to do, and the last lines of the log that tells."""
    console = console or _console()
    console.print(f"\n[red]job {status.record.job_id} failed[/]: {escape(status.reason)}", soft_wrap=True)
    if status.fix:
        console.print(f"  fix: {escape(status.fix)}", soft_wrap=True)
    where = f", on {status.host}" if status.host else ""
    console.print(f"  the end of {escape(shown_path(status.log))}{escape(where)}:", soft_wrap=True)
    for line in status.log_tail:
        console.print(f"    {escape(line)}", soft_wrap=True)


def shown_path(path: str | os.PathLike) -> str:
    """Relative to the present folder where it is below it."""
    path = Path(path)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _iterations(status: JobStatus) -> str:
    if status.record.kind != "training":
        return ""
    # a sweep's trial has its length from its own config
    return f"{status.iterations}/{status.record.max_iter}" if status.record.max_iter else str(status.iterations)


def _kind(record: JobRecord) -> str:
    return "" if record.kind == "training" else f" ({record.kind})"


def _request(profile: Profile, jobs: int) -> str:
    each = " for each" if jobs > 1 else ""
    gpus, processes = profile.gpus_per_node, profile.tasks_per_node
    on_cpu = f"{processes} process{'es' * (processes > 1)} on the CPU"
    what = f"{gpus} GPU{'s' * (gpus > 1)}" if gpus else on_cpu
    where = f"{profile.nodes} nodes with {what} each" if profile.nodes > 1 else what
    limit = f", at most {profile.time} at a time" if profile.time else ""
    partition = f" in {profile.partition}" if profile.partition else ""
    at_once = f", {profile.max_parallel} at once" if profile.max_parallel and jobs > 1 else ""
    return f"{profile.executor}{partition}: {jobs} job{'s' * (jobs > 1)}{at_once}, {where}{each}{limit}"


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _console() -> Console:
    # in a pipe a table is as wide as it needs to be
    return Console(highlight=False, width=None if sys.stdout.isatty() else 300)
