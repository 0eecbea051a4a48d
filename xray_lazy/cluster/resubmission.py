"""Submit jobs again that failed, were cancelled or ran out of time: they go on from their last checkpoint."""

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from xray_lazy.cluster.cluster_profile import Profile, change_profile
from xray_lazy.cluster.evaluator_job import submit_evaluators
from xray_lazy.cluster.job_record import JobRecord, newest_jobs
from xray_lazy.cluster.planning import prepare_job
from xray_lazy.cluster.slurm_commands import check_request
from xray_lazy.cluster.status import JobStatus, read_status
from xray_lazy.cluster.submission import submission_facts, submit_records
from xray_lazy.config import load_config
from xray_lazy.errors import UserError
from xray_lazy.run_folder import RunFolder


def resubmit(folders: Sequence[str | os.PathLike], flags: Mapping[str, Any]) -> list[JobRecord]:
    """Submit again what is not done in output folders, or below the folder of an array.

    Each training has the config in its folder, the profile of its last job, and the code as it is now. Where it was
    submitted with an evaluator, it gets one again.

    Args:
        flags: keys of the profile to change; None leaves a key as it was.

    Raises:
        UserError: see `plan_jobs` and `newest_jobs`; or all jobs are done or at work.
    """
    statuses = read_status(newest_jobs(folders))
    trainings = [s.record for s in statuses if s.record.kind == "training" and not (s.active or _done(s))]
    if not trainings:
        raise UserError("there is nothing to submit again", "`submit.py status` tells which jobs are done or at work")
    submitted = []
    for records in _groups(trainings):
        profile = change_profile(Profile(**records[0].profile), flags)
        with _in_folder(records[0].working_dir):
            _check_again(records, profile)
            facts = submission_facts(profile, Path(records[0].logs).parent)
            again = submit_records([dataclasses.replace(record, **facts) for record in records])
            submitted += again + submit_evaluators(again)
    return submitted


def _done(status: JobStatus) -> bool:
    return status.state == "finished" and not status.record.command


def _groups(records: Sequence[JobRecord]) -> list[list[JobRecord]]:
    """The jobs that were submitted together, and can be one array again."""
    groups: dict[tuple, list[JobRecord]] = {}
    for record in records:
        if record.command:
            folder = Path(record.logs).parent.parent
            raise UserError(f"the job {record.job_id} is a trial of a sweep", f"go on with the sweep in {folder}")
        groups.setdefault((record.logs, record.working_dir, str(record.profile)), []).append(record)
    return list(groups.values())


def _check_again(records: Sequence[JobRecord], profile: Profile) -> None:
    if profile.executor == "slurm":
        check_request(profile)
    looked_at: set[str] = set()
    for record in records:
        prepare_job(load_config(RunFolder(record.output_dir).config), profile, looked_at)


@contextlib.contextmanager
def _in_folder(folder: str) -> Iterator[None]:
    """Relative paths in a config start from where its job was submitted."""
    here = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(here)
