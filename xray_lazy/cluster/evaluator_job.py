"""A second job beside a training: it evaluates the checkpoints as they appear."""

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import xray_lazy
from xray_lazy.cluster.job_record import JobRecord, read_records
from xray_lazy.cluster.status import read_status
from xray_lazy.cluster.submission import submit_records
from xray_lazy.errors import RunFailure, UserError

TOOL = "tools/evaluate_checkpoints.py"


def submit_evaluators(trainings: Sequence[JobRecord]) -> list[JobRecord]:
    """Submit an evaluator for each submitted training that is to have one: a process with one GPU where that has any.

    On SLURM it starts when the training has started; it ends when the training's job is over.

    Raises:
        UserError: SLURM refuses it.
    """
    records = []
    for training in trainings:
        if not training.with_evaluator:
            continue
        record = _evaluator(training)
        on_slurm = training.executor == "slurm"
        try:
            records += submit_records([record], sbatch={"dependency": f"after:{training.job_id}"} if on_slurm else None)
        except UserError as error:
            raise UserError(
                f"the training is submitted, as job {training.job_id}; its evaluator is not: {error.message}",
                f"{error.fix}; start {TOOL} by hand, or take the training back: submit.py cancel {training.output_dir}",
            ) from None
    return records


def watch_job(output_dir: str | os.PathLike, job_id: str) -> Callable[[], bool | None]:
    """What tells whether a job of a folder waits or runs: True; False when it is over; None where that is not known.

    Raises:
        UserError: the folder has no such job.
    """
    records = [record for record in read_records(output_dir) if record.job_id == job_id]
    if not records:
        raise UserError(f"no job {job_id} was submitted to work in {output_dir}", "`submit.py status` shows its jobs")

    def goes_on() -> bool | None:
        try:
            (status,) = read_status(records[-1:], with_progress=False)
        except (RunFailure, UserError):
            return None  # SLURM does not answer, or its commands are not on this machine
        return None if status.state == "unknown" else status.active

    return goes_on


def tool_path(record: JobRecord, name: str) -> str:
    """A tool's file in the job's snapshot; for an installed package, beside or inside of the package."""
    package = Path(xray_lazy.__file__).resolve().parent
    installed = package if (package / name).is_file() else package.parent
    return str(Path(record.code or installed) / name)


def _evaluator(training: JobRecord) -> JobRecord:
    gpus = min(1, training.profile["gpus_per_node"])
    one = {**training.profile, "nodes": 1, "gpus_per_node": gpus, "tasks_per_node": 1, "memory": ""}
    command = ["python", tool_path(training, TOOL), training.output_dir, "--job", training.job_id]
    changed = {"kind": "evaluator", "profile": one, "overrides": [], "command": command, "with_evaluator": False}
    return dataclasses.replace(training, **changed)
