"""`job.json` in an output folder: the jobs that were submitted to work on it, the newest last."""

import dataclasses
import json
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xray_lazy.errors import UserError
from xray_lazy.utils.atomic_file import write_json

JOB_FILE = "job.json"
# below an array's or a sweep's folder
SEARCHED_LEVELS = 2


@dataclass(frozen=True)
class JobRecord:
    """One submitted job; plain values, as they are in the file.

    Attributes:
        job_id: SLURM's, such as "12" or "12_0"; for the executor local the process that watches over the tasks, and
            while one of an array waits, that of the command which is to start it, with its place in the array.
        kind: "training" or "evaluator".
        output_dir: absolute.
        logs: the folder of the tasks' logs, absolute.
        profile: the keys of the job's profile.
        code: the snapshot of the code; None for an installed package.
        working_dir: where the job was submitted from.
        overrides: those of the command line; they are in the output folder's config.yaml.
        typed: the whole command line with which the training was first submitted, without secrets.
        max_iter: of the training.
        host: where it was submitted, and for the executor local runs.
        submitted: ISO 8601 with the time zone.
        command: that the job's one task runs; empty for a training, whose tasks are the run's processes.
        git: commit, branch and dirty flag of the checkout that the snapshot was taken of.
        waits_for: of a local job that waits, the start of the process that is to start it, which tells it from later
            ones of its number; empty of all others.
        with_evaluator: a training that was submitted with an evaluator beside it.
    """

    job_id: str
    kind: str
    output_dir: str
    logs: str
    profile: dict[str, Any]
    code: str | None
    working_dir: str
    max_iter: int
    submitted: str
    host: str = field(default_factory=socket.gethostname)
    overrides: list[str] = field(default_factory=list)
    typed: str = ""
    command: list[str] = field(default_factory=list)
    git: dict[str, Any] | None = None
    waits_for: str = ""
    with_evaluator: bool = False

    @property
    def executor(self) -> str:
        return self.profile["executor"]

    def log_of(self, rank: int) -> Path:
        """What a task prints."""
        return Path(self.logs) / f"{self.job_id}_{rank}_log.out"

    def add(self) -> None:
        """Write the job into its output folder's file, after the earlier ones."""
        records = [*read_records(self.output_dir), self]
        content = {"jobs": [dataclasses.asdict(record) for record in records]}
        write_json(Path(self.output_dir) / JOB_FILE, content, indent=2)


def read_records(output_dir: str | os.PathLike) -> list[JobRecord]:
    """The jobs of an output folder, the newest last; none where nothing was submitted.

    Raises:
        UserError: the file is not what `JobRecord.add` writes.
    """
    path = Path(output_dir) / JOB_FILE
    if not path.is_file():
        return []
    try:
        names = {entry.name for entry in dataclasses.fields(JobRecord)}
        jobs = json.loads(path.read_bytes())["jobs"]
        return [JobRecord(**{name: value for name, value in job.items() if name in names}) for job in jobs]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is not a record of jobs: {error}", "move it away; the jobs themselves go on") from None


def newest_jobs(folders: Sequence[str | os.PathLike]) -> list[JobRecord]:
    """The newest job of each kind in output folders, and in those below the folder of an array or a sweep.

    Raises:
        UserError: there is no such folder, or no job in it.
    """
    found = []
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise UserError(f"there is no folder {folder}", "give the output folder of a job, or of an array")
        levels = ["/".join(["*"] * depth + [JOB_FILE]) for depth in range(SEARCHED_LEVELS + 1)]
        records = [_newest(path.parent) for level in levels for path in sorted(folder.glob(level))]
        if not records:
            raise UserError(
                f"no job was submitted to work in {folder}", "give the output folder of a job, or of an array"
            )
        found += [record for group in records for record in group]
    return found


def _newest(folder: Path) -> list[JobRecord]:
    # by kind: a training and the evaluator beside it
    return list({record.kind: record for record in read_records(folder)}.values())
