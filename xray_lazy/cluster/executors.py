"""submitit executors for a profile, and the script with which every task of a job starts."""

import contextlib
import hashlib
import io
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError
from submitit.local.local import LocalJob

from xray_lazy.cluster.cluster_profile import Profile
from xray_lazy.cluster.slurm_commands import explain_refusal, require_slurm
from xray_lazy.cluster.snapshot import import_paths
from xray_lazy.command_line import at_home
from xray_lazy.errors import RunFailure
from xray_lazy.utils.atomic_file import write_text

# a job on this machine has no time limit of its own
LOCAL_MINUTES = 365 * 24 * 60


class BackgroundExecutor(submitit.LocalExecutor):
    """submitit's local jobs, each in a session of its own: neither Ctrl-C nor a closed terminal reaches them."""

    def _submit_command(self, command: str) -> LocalJob:
        tasks = self.parameters["tasks_per_node"]
        environment = {
            "SUBMITIT_EXECUTOR": "local",
            "SUBMITIT_LOCAL_COMMAND": command,
            "SUBMITIT_LOCAL_NTASKS": str(tasks),
            "SUBMITIT_LOCAL_TIMEOUT_S": str(self.parameters["timeout_min"] * 60),
            "SUBMITIT_LOCAL_SIGNAL_DELAY_S": str(self.parameters["signal_delay_s"]),
            "SUBMITIT_LOCAL_NODEID": "0",
            "SUBMITIT_LOCAL_JOB_NUM_NODES": "1",
            "SUBMITIT_LOCAL_WITH_SHELL": "",
            "SUBMITIT_STDERR_TO_STDOUT": "1",
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "submitit.local._local", str(self.folder)],
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        return LocalJob(folder=self.folder, job_id=str(process.pid), process=process, tasks=list(range(tasks)))


def make_executor(
    profile: Profile,
    folder: Path,
    name: str,
    start_script: Path | None,
    one_task: bool = False,
    sbatch: Mapping[str, str] | None = None,
) -> submitit.Executor:
    """The executor that a profile asks for.

    Args:
        folder: for submitit's files and the logs of the tasks, `<job id>_<rank>_log.out`.
        name: of the job in the queue.
        start_script: what `write_start_script` made; None for the executor debug.
        one_task: one process has all GPUs and cores of the job, and starts those that it needs by itself.
        sbatch: options of sbatch beside the profile's.
    """
    tasks = 1 if one_task else profile.tasks_on_a_node
    if profile.executor == "debug":
        return submitit.DebugExecutor(folder)
    python = f"/bin/bash {shlex.quote(str(start_script))}"
    if profile.executor == "local":
        executor = BackgroundExecutor(folder, python=python)
        minutes = profile.minutes or LOCAL_MINUTES
        executor.update_parameters(tasks_per_node=tasks, timeout_min=minutes, signal_delay_s=profile.signal_delay)
        return executor
    require_slurm()
    executor = submitit.SlurmExecutor(folder, python=python)
    executor.update_parameters(**_slurm_parameters(profile, name, tasks, {**profile.sbatch, **(sbatch or {})}))
    return executor


def submit_functions(executor: submitit.Executor, functions: Sequence[Callable]) -> list[submitit.Job]:
    """Submit functions, more than one as an array.

    Raises:
        UserError: SLURM refuses them.
        RunFailure: its answer can't be read.
    """
    try:
        # submitit prints what sbatch said before it raises it
        with _outside_of_a_job(), contextlib.redirect_stderr(io.StringIO()):
            if len(functions) == 1:
                return [executor.submit(functions[0])]
            return executor.submit_array(functions)
    except FailedJobError as error:
        raise explain_refusal(str(error)) from None
    except FailedSubmissionError as error:
        answer = str(error).splitlines()[0]
        raise RunFailure(f"sbatch has told no job id: {answer}", "`squeue --me` shows whether there is a job") from None


def write_start_script(
    profile: Profile, folder: Path, code: Path | None, working_dir: Path, environment: Mapping[str, str] | None = None
) -> Path:
    """Write the script that every task of a job starts with, and return its path.

    It runs the profile's lines, goes into the snapshot, which `python -m` then imports from, and becomes Python.

    Args:
        code: the snapshot; None for an installed package.
        working_dir: where the job was submitted from.
        environment: further variables to set.
    """
    lines = ["#!/bin/bash", "set -e"]
    if profile.executor == "slurm":
        # a job that is preempted before it listens would die of the notice; so it starts on, until SLURM requeues it
        lines.append("trap '' USR2 TERM")
    lines += profile.setup
    lines += [f"export {name}={shlex.quote(value)}" for name, value in (environment or {}).items()]
    if code:
        paths = ":".join(shlex.quote(path) for path in import_paths(code))
        lines.append(f'export PYTHONPATH={paths}"${{PYTHONPATH:+:$PYTHONPATH}}"')
    start = code or working_dir
    lines += [f"cd {shlex.quote(str(start))}", f'exec {_python(profile, [start, working_dir, folder])} "$@"']
    text = "\n".join(lines) + "\n"
    # a name by content: what a queued job starts with stays as it is
    path = folder / f"start_{hashlib.sha256(text.encode()).hexdigest()[:12]}.sh"
    write_text(path, text)
    return path


def _python(profile: Profile, folders: Sequence[Path]) -> str:
    """The command that is Python on a compute node, which sees the folders also where it runs in a container."""
    if not profile.container:
        return profile.python or shlex.quote(sys.executable)
    bind = ",".join(dict.fromkeys(str(folder) for folder in folders))
    image = shlex.quote(at_home(profile.container))
    gpus = "--nv " if profile.gpus_per_node else ""
    return f"apptainer exec {gpus}--bind {shlex.quote(bind)} {image} {profile.python or 'python'}"


def _slurm_parameters(profile: Profile, name: str, tasks: int, sbatch: Mapping[str, str]) -> dict:
    """submitit's names for what a profile asks for; what it leaves empty is left to the cluster."""
    gpus = f"{profile.gpu_type}:{profile.gpus_per_node}" if profile.gpu_type else profile.gpus_per_node
    # one rank that dies ends the job: the others would wait for it
    srun_args = ["--kill-on-bad-exit=1"]
    cores = profile.cores_per_task * profile.tasks_on_a_node // tasks
    if cores:
        srun_args.append(f"--cpus-per-task={cores}")  # since SLURM 22.05 srun doesn't take sbatch's
    parameters = {
        "job_name": name,
        "nodes": profile.nodes,
        "ntasks_per_node": tasks,
        "gpus_per_node": gpus if profile.gpus_per_node else None,
        "cpus_per_task": cores or None,
        "mem": profile.memory or None,
        "time": profile.minutes,
        "partition": profile.partition or None,
        "account": profile.account or None,
        "qos": profile.qos or None,
        "constraint": profile.constraint or None,
        "signal_delay_s": profile.signal_delay,
        "array_parallelism": profile.max_parallel or None,
        "stderr_to_stdout": True,
        "srun_args": [*srun_args, *profile.srun_args],
        "additional_parameters": {
            "requeue": True,
            **{option: True if value == "true" else value for option, value in sbatch.items()},
        },
    }
    return {key: value for key, value in parameters.items() if value is not None}


@contextlib.contextmanager
def _outside_of_a_job() -> Iterator[None]:
    """Hide the job that this process is in, where it is in one; the new job would take its limits."""
    if "SLURM_JOB_ID" not in os.environ:
        yield
        return
    configuration = os.environ.get("SLURM_CONF")
    with submitit.helpers.clean_env():
        if configuration:
            os.environ["SLURM_CONF"] = configuration
        yield
