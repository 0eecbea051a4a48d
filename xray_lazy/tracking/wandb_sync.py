"""Send what W&B has recorded of a run, and its server has not got."""

import dataclasses
import logging
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from xray_lazy.env import wandb_login, wandb_server
from xray_lazy.errors import RunFailure, UserError
from xray_lazy.run_folder import RunFolder
from xray_lazy.tracking.run_record import RunRecord
from xray_lazy.tracking.wandb_files import find_parts
from xray_lazy.tracking.wandb_session import WandbSession, check_server, reason

logger = logging.getLogger(__name__)

OPTIONS = ("project", "entity", "group", "tags", "notes", "job_type")


def send_runs(output_dirs: Sequence[str | Path], timeout: float = 300) -> None:
    """`send_run` for each of several output folders, such as those of a sweep's trials.

    Raises:
        UserError: nobody is logged in, or none of the folders is a run's.
        RunFailure: W&B's server doesn't answer.
        UserError, RunFailure: as `send_run`, of all folders together once the others have been sent.
    """
    records = [RunFolder(folder).record for folder in output_dirs]
    if not any(record.is_file() for record in records):
        there_is_none = f"there is no run record {', '.join(map(str, records))}"
        raise UserError(there_is_none, "give the output folder of a training")
    if not wandb_login():
        raise UserError("nobody is logged in to W&B", "wandb login")
    try:
        check_server(wandb_server(), timeout)
    except OSError as error:
        message = f"W&B can't be reached, and nothing is sent: {reason(error)}"
        raise RunFailure(message, "try again when its server answers") from error
    faults = []
    for folder in output_dirs:
        try:
            send_run(folder, timeout)
        except UserError as fault:
            faults.append(fault)
    if faults:
        kind = RunFailure if any(isinstance(fault, RunFailure) for fault in faults) else UserError
        raise kind("\n  ".join(fault.message for fault in faults), faults[0].fix)


def send_run(output_dir: str | Path, timeout: float = 300) -> None:
    """Send the rest of a run that has ended, each row once.

    `wandb sync` sends a part as a whole, after what the server has: right for what was recorded offline, but of what
    was cut off in the middle, also of such a sending, it would send the beginning twice. Of that only the missing rows
    are sent.

    Args:
        output_dir: of the training.
        timeout: seconds for what was cut off; W&B takes its time for parts that were recorded offline.

    Raises:
        UserError: the folder isn't that of a run with W&B.
        RunFailure: W&B couldn't be reached or didn't take all.
    """
    run = RunRecord.read(RunFolder(output_dir).record)
    settings = run.config.get("writers", {}).get("wandb")
    if run.wandb_id is None or settings is None:
        raise UserError(f"the run in {output_dir} has not been to W&B", "give the output folder of one with a W&B id")
    # as it is given, not as the config says: the folder may have been copied to a machine with internet
    parts = find_parts(output_dir, run.wandb_id)
    waiting = [part for part in parts if not part.is_sent]
    if not waiting:
        logger.info("all of it has been sent")
    if any(part.is_begun for part in waiting):  # those after it, sent as a whole, would come before its rest
        for part in waiting:
            if part.is_offline:
                part.mark_begun()
    if any(part.is_begun or not part.is_offline for part in waiting):
        options = {name: settings.get(name) for name in OPTIONS}
        session = WandbSession(str(output_dir), settings.get("name"), "online", timeout, options)
        session.start(dataclasses.replace(run, start_iteration=sys.maxsize), only_missing=True)
        exit_code = parts[-1].exit_code()
        # killed is not finished
        if not session.close(1 if exit_code is None else exit_code) or session.is_offline:
            raise RunFailure(f"W&B didn't take all of {output_dir}", "see above, and try again")
    offline = [part for part in waiting if part.is_offline and not part.is_sent]
    if offline:
        for part in offline:
            part.mark_begun()
        command = [sys.executable, "-m", "wandb", "sync", *(str(part.folder) for part in offline)]
        if subprocess.run(command).returncode or not all(part.is_sent for part in waiting):
            raise RunFailure(f"W&B didn't take all of {output_dir}", "see above, and try again")
