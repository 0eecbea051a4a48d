"""What SLURM's own commands tell: partitions and their limits, the states of jobs, and why a job was refused."""

import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass

from submitit.slurm.slurm import read_job_id

from xray_lazy.cluster.cluster_profile import Profile, parse_time
from xray_lazy.config.suggest import did_you_mean, nearest
from xray_lazy.errors import RunFailure, UserError

# commands hang where the controller is busy or the network is down
TIMEOUT_SECONDS = 60
SLURM_FIX = "`sinfo` tells whether SLURM is up"


@dataclass(frozen=True)
class QueueState:
    """What SLURM says about a job: its state in capitals, and why it waits or how it ended (may be empty)."""

    state: str
    reason: str = ""


@dataclass(frozen=True)
class Partition:
    """The largest of what a partition's kinds of nodes have; None is unlimited."""

    name: str
    nodes: int
    gpus: int
    cores: int
    minutes: int | None


def check_request(profile: Profile) -> None:
    """Compare what a profile asks for with what its partition has; SLURM lets some impossible jobs wait for ever.

    Raises:
        UserError: there is no SLURM here, or it doesn't answer; no such partition, or it has less than a job needs.
    """
    require_slurm()
    try:
        partitions = _partitions()
    except RunFailure as failure:  # nothing has begun yet
        why = failure.message.splitlines()[0]
        raise UserError(f"SLURM doesn't answer: {why}", f"{SLURM_FIX}; or take --executor local") from None
    names = profile.partition.split(",") if profile.partition else list(partitions)
    for name in names:
        if name not in partitions:
            near = did_you_mean(nearest(name, partitions))
            raise UserError(f"the cluster has no partition {name}", near or f"it has {', '.join(partitions)}")
    problems = [_problem(profile, partitions[name]) for name in names]
    if problems and all(problems):
        raise UserError(*problems[0])


def job_states(job_ids: Iterable[str]) -> dict[str, QueueState]:
    """The states of jobs, such as `12` and `12_0`, by their ids; those that SLURM no longer knows are left out.

    Raises:
        UserError: there is no SLURM here.
        RunFailure: SLURM doesn't answer.
    """
    wanted = set(job_ids)
    if not wanted:
        return {}
    require_slurm()
    found = {}
    command = ("squeue", "--noheader", "--array", "--me", "--states=all", "--format=%i|%T|%r")
    for job_id, state, reason in _rows(r"(\S+)\|([A-Z_]+)\|(.*)", *command):
        found[job_id] = QueueState(state, "" if reason in ("None", "NonZeroExitCode") else reason)
    missing = {_array(job_id) for job_id in wanted - set(found)}
    if missing:
        found = {**_accounted(missing), **found}
    # elements of an array that were cancelled before they started are one entry, under the array's id
    return {
        job_id: found.get(job_id) or found[_array(job_id)] for job_id in wanted if {job_id, _array(job_id)} & set(found)
    }


def _array(job_id: str) -> str:
    """The id of the whole array that a job such as `12_0` is an element of; `12` is itself."""
    return job_id.partition("_")[0]


def cancel_jobs(job_ids: Iterable[str]) -> None:
    """Cancel jobs, waiting or running.

    Raises:
        UserError: there is no SLURM here.
        RunFailure: SLURM refuses.
    """
    require_slurm()
    _ask("scancel", *job_ids)


def explain_refusal(message: str) -> UserError:
    """What sbatch said, as one error: `sbatch: error: ...` lines, the most telling one."""
    lines = [line.split("error:", 1)[1].strip() for line in message.splitlines() if "error:" in line]
    reason = lines[0] if lines else (message.strip().splitlines() or ["no reason given"])[-1]
    reason = reason.removeprefix("Batch job submission failed: ")
    fixes = {
        "account": "give --account, or the profile's key account; `sacctmgr show associations user=$USER` lists yours",
        "partition": "`sinfo` lists the partitions; give --partition",
        "qos": "`sacctmgr show qos` lists them; give --qos",
        "feature": "`sinfo -o '%N %f'` lists the nodes' features; give --constraint",
        "node configuration": "ask for less of each node: --gpus-per-node, --cpus-per-gpu, --memory",
        "memory": "ask for less --memory; `sinfo -o '%P %m'` lists what nodes have, in MB",
        "time": "give a lower --time; `sinfo -o '%P %l'` lists the limits",
        "array": "submit fewer jobs at once; `scontrol show config | grep MaxArraySize` shows the limit",
    }
    fix = next((fix for word, fix in fixes.items() if word in reason.lower()), "`sinfo` shows what the cluster has")
    return UserError(f"SLURM refuses the job: {reason}", fix)


def require_slurm() -> None:
    """Raises: UserError: this machine has no SLURM commands."""
    if not shutil.which("sbatch") or not shutil.which("squeue"):
        raise UserError(
            "SLURM's commands are not on this machine", "go to the cluster's login machine, or take --executor local"
        )


def _partitions() -> dict[str, Partition]:
    found: dict[str, Partition] = {}
    row = r"(.+)\|(\d+)\|(.*)\|(\d+)\+?\|(\S+)"
    for name, nodes, resources, cores, limit in _rows(row, "sinfo", "--noheader", "--format=%R|%D|%G|%c|%l"):
        other = found.get(name, Partition(name, 0, 0, 0, 0))
        minutes = parse_time(limit) if limit[0].isdigit() else None
        found[name] = Partition(
            name,
            other.nodes + int(nodes),
            max(other.gpus, sum(map(int, re.findall(r"gpu:(?:[^:,(]+:)?(\d+)", resources)))),
            max(other.cores, int(cores)),
            None if minutes is None or other.minutes is None else max(minutes, other.minutes),
        )
    return found


def _problem(profile: Profile, partition: Partition) -> tuple[str, str] | None:
    """Message and fix where a partition has less than a job needs."""
    name = f"the partition {partition.name}"
    if profile.gpus_per_node > partition.gpus:
        fix = (
            f"take --gpus-per-node {partition.gpus} and more --nodes"
            if partition.gpus
            else "choose another --partition"
        )
        return f"{profile.gpus_per_node} GPUs of a node asked for, but nodes of {name} have {partition.gpus}", fix
    if profile.nodes > partition.nodes:
        return f"{profile.nodes} nodes asked for, but {name} has {partition.nodes}", f"take --nodes {partition.nodes}"
    cores = profile.cores_per_task * profile.tasks_on_a_node
    if cores > partition.cores:
        most = partition.cores // profile.tasks_on_a_node
        key = "--cpus-per-gpu" if profile.gpus_per_node else "--cpus-per-task"
        return f"{cores} cores of a node asked for, but nodes of {name} have {partition.cores}", f"take {key} {most}"
    if partition.minutes is not None and profile.minutes > partition.minutes:
        fix = f"take --time {partition.minutes} (minutes): a job that reaches its limit saves, and is requeued"
        return f"the time limit {profile.time} is above that of {name}", fix
    return None


def _accounted(job_ids: set[str]) -> dict[str, QueueState]:
    """The states in SLURM's accounting, where the cluster keeps one."""
    columns = "--format=JobID,State,ExitCode"
    command = ("sacct", "--allocations", "--noheader", "--parsable2", columns, "--jobs", ",".join(sorted(job_ids)))
    try:
        rows = _rows(r"(\S+)\|([A-Z_]+)[^|]*\|(\d+):(\d+)", *command)  # "CANCELLED by 1000"
    except RunFailure:
        return {}
    found = {}
    for job_id, state, code, signal in rows:
        reason = f"exit code {code}" if code != "0" else f"signal {signal}" if signal != "0" else ""
        for array, *span in read_job_id(job_id):  # 12, 12_0, or elements that were cancelled together: 12_[2-5]
            elements = range(int(span[0]), int(span[-1]) + 1) if span else ()
            for name in [f"{array}_{element}" for element in elements] or [array]:
                found[name] = QueueState(state, reason)
    return found


def _rows(row: str, *command: str) -> list[tuple[str, ...]]:
    """The lines of an answer that are as the pattern `row`, by its groups; others are what a cluster says of itself."""
    lines = _ask(*command).splitlines()
    rows = [match.groups() for line in lines if (match := re.fullmatch(row, line))]
    if lines and not rows:
        raise RunFailure(f"the answer of {command[0]} can't be read: {lines[0]}", SLURM_FIX)
    return rows


def _ask(*command: str) -> str:
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=True)
    except subprocess.CalledProcessError as error:
        raise RunFailure(f"{command[0]} fails: {error.stderr.strip() or error}", SLURM_FIX) from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RunFailure(f"{command[0]} gives no answer: {error}", SLURM_FIX) from None
    return answer.stdout
