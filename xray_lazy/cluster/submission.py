"""Submit trainings: fix their code, config and output folders, hand them to submitit, and keep records of the jobs."""

import contextlib
import dataclasses
import datetime
import os
import shlex
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import submitit

from xray_lazy.cluster.cluster_profile import Profile
from xray_lazy.cluster.executors import make_executor, submit_functions, write_start_script
from xray_lazy.cluster.job import CommandJob, TrainingJob
from xray_lazy.cluster.job_record import JobRecord
from xray_lazy.cluster.planning import PlannedJob, SubmitOptions
from xray_lazy.cluster.snapshot import find_checkout, take_snapshot
from xray_lazy.cluster.status import FAILURE_FILES, STATE_FILES, process_runs, read_status
from xray_lazy.run_folder import RunFolder
from xray_lazy.tracking.code_state import git_state
from xray_lazy.tracking.redaction import argument_without_secrets
from xray_lazy.utils.processes import process_start


def submit_jobs(jobs: Sequence[PlannedJob], options: SubmitOptions, profile: Profile) -> list[JobRecord]:
    """Submit planned jobs, several as an array; each has its record in its output folder.

    An array of local jobs is started one after the other, `profile.max_parallel` (default 1) at once: this returns when
    the last one has started, and returns those that were not cancelled before. Where it is interrupted, what has
    started goes on, and `resubmit` starts the others.

    Raises:
        UserError: the code is too large for a snapshot, a folder can't be written, or SLURM refuses the jobs.
    """
    from xray_lazy.engine.output_folder.folder_ownership import prepared_run_folder

    group = jobs[0].output_dir.parent if jobs[0].name else jobs[0].output_dir
    facts = submission_facts(profile, group)
    records = [
        JobRecord(
            kind="training",
            output_dir=str(job.output_dir),
            max_iter=job.cfg.train.max_iter,
            overrides=job.overrides,
            typed=shlex.join(map(argument_without_secrets, sys.argv)),
            with_evaluator=options.with_evaluator,
            **facts,
        )
        for job in jobs
    ]
    with contextlib.ExitStack() as folders:
        for job in jobs:
            folders.enter_context(prepared_run_folder(job.cfg, options.resume, options.overwrite))
            if options.with_evaluator:
                # training keeps checkpoints for it, also before it starts
                RunFolder(job.output_dir).evaluator.mkdir(exist_ok=True)
        return submit_records(records, taken_over=folders.close)


def submission_facts(profile: Profile, group: Path) -> dict[str, Any]:
    """What the records of jobs that are submitted together, here and now, have in common: a snapshot, among others.

    Args:
        group: the folder for their code and logs.

    Raises:
        UserError: the code is too large for a snapshot.
    """
    # the executor debug runs in this process, from the checkout
    code = None if profile.executor == "debug" else take_snapshot(group / "code")
    source = code or find_checkout()
    return {
        "job_id": "",
        "waits_for": "",
        "logs": str(group / "jobs"),
        "profile": dataclasses.asdict(profile),
        "code": str(code) if code else None,
        "working_dir": os.getcwd(),
        "host": socket.gethostname(),
        "submitted": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "git": git_state(source) if source else None,
    }


def submit_records(
    records: Sequence[JobRecord],
    environment: Mapping[str, str] | None = None,
    sbatch: Mapping[str, str] | None = None,
    taken_over: Callable[[], object] = lambda: None,
) -> list[JobRecord]:
    """Submit what records of one group and profile describe; returns them with the jobs' ids, as they are written.

    Args:
        environment: variables for the jobs.
        sbatch: options of sbatch beside the profile's.
        taken_over: called as soon as the output folders are the jobs': what comes later undoes nothing there.

    Raises:
        UserError: SLURM refuses the jobs.
    """
    first = records[0]
    profile, logs = Profile(**first.profile), Path(first.logs)
    script = None
    if profile.executor != "debug":
        code = Path(first.code) if first.code else None
        script = write_start_script(profile, logs, code, Path(first.working_dir), environment)
    executor = make_executor(profile, logs, _queue_name(first), script, one_task=bool(first.command), sbatch=sbatch)
    if profile.executor == "slurm":
        return _hand_over(records, executor, taken_over)
    # there is no queue that could hold local jobs back
    started = _hand_over(records[:1], executor, taken_over)
    waiting = [_held_back(record, number) for number, record in enumerate(records[1:], 1)]
    try:
        for record in waiting:
            while sum(process_runs(other) for other in started) >= max(1, profile.max_parallel):
                time.sleep(1)
            if read_status([record], with_progress=False)[0].active:  # nobody has cancelled it
                started += _hand_over([record], executor)
    except KeyboardInterrupt:
        names = ", ".join(record.job_id for record in started)
        print(f"\nleft: what has started goes on ({names}); `submit.py resubmit` starts the others", file=sys.stderr)
        raise
    return started


def _held_back(record: JobRecord, number: int) -> JobRecord:
    """Note down a job of a local array, the one of this number, that is to be started by this process later."""
    pid = os.getpid()
    record = dataclasses.replace(record, job_id=f"{pid}_{number}", waits_for=process_start(pid) or "")
    record.add()
    return record


def _hand_over(
    records: Sequence[JobRecord], executor: submitit.Executor, taken_over: Callable[[], object] = lambda: None
) -> list[JobRecord]:
    for record in records:
        # what an earlier job said of itself
        (Path(record.output_dir) / STATE_FILES[record.kind]).unlink(missing_ok=True)
    if isinstance(executor, submitit.DebugExecutor):
        os.environ["SUBMITIT_FOLDER"] = str(executor.folder)  # as the other executors set it for their tasks
    jobs = submit_functions(executor, [_function(record) for record in records])
    taken_over()
    records = [
        dataclasses.replace(record, job_id=job.job_id, waits_for="") for record, job in zip(records, jobs, strict=True)
    ]
    for record in records:
        record.add()
    if isinstance(executor, submitit.DebugExecutor):
        for job in jobs:
            job.results()  # runs it
    return records


def _queue_name(record: JobRecord) -> str:
    """What the queue shows: the run, the evaluator of a run, or the sweep and the number of its trial."""
    group = Path(record.logs).parent
    if record.kind != "training":
        return f"{group.name}-{record.kind}"
    return f"{group.parent.name}-{Path(record.output_dir).name}" if record.command else group.name


def _function(record: JobRecord) -> TrainingJob | CommandJob:
    limits = {name: record.profile[name] for name in ("max_timeouts", "signal_delay")}
    if record.command:
        files = STATE_FILES[record.kind], FAILURE_FILES[record.kind]
        return CommandJob(record.output_dir, record.working_dir, record.command, *files, **limits)
    return TrainingJob(record.output_dir, record.working_dir, record.overrides, record.typed, **limits)
