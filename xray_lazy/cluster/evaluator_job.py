"""A second job beside a training: it evaluates the checkpoints as they appear."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import xray_lazy
from xray_lazy.cluster.job_record import JobRecord
from xray_lazy.cluster.submission import submit_records

TOOL = "tools/evaluate_checkpoints.py"


def submit_evaluators(trainings: Sequence[JobRecord]) -> list[JobRecord]:
    """Submit an evaluator for each of submitted trainings: one process with one GPU where the training has any.

    On SLURM it starts when the training has started.

    Raises:
        UserError: SLURM refuses it.
    """
    records = []
    for training in trainings:
        record = _evaluator(training)
        on_slurm = training.executor == "slurm"
        records += submit_records([record], sbatch={"dependency": f"after:{training.job_id}"} if on_slurm else None)
    return records


def tool_path(record: JobRecord, name: str) -> str:
    """A tool's file in the job's snapshot; for an installed package, beside or inside of the package."""
    package = Path(xray_lazy.__file__).resolve().parent
    installed = package if (package / name).is_file() else package.parent
    return str(Path(record.code or installed) / name)


def _evaluator(training: JobRecord) -> JobRecord:
    gpus = min(1, training.profile["gpus_per_node"])
    one = {**training.profile, "nodes": 1, "gpus_per_node": gpus, "tasks_per_node": 1, "memory": ""}
    command = ["python", tool_path(training, TOOL), training.output_dir]
    return dataclasses.replace(training, kind="evaluator", profile=one, overrides=[], command=command)
