"""The processes of a run, and what torchrun or srun says of theirs."""

import os
import re
import socket
import subprocess
from dataclasses import dataclass

from xray_lazy.errors import UserError
from xray_lazy.utils.wording import counted


@dataclass(frozen=True)
class LaunchPlan:
    """The processes of a run.

    Attributes:
        device: "cuda" or "cpu"; every process of a CUDA run has the GPU of its local rank.
        processes: on this machine.
        machines: in the run.
        machine_rank: of this machine.
        dist_url: where the processes meet, tcp://HOST:PORT; "" for any free port of this machine.
        group_rank, local_rank, group_size: this process's rank in all and on its machine, and the number of all, where
            another launcher has started it; else None.
        launcher_keeps_store: whether torchrun itself holds the store at `dist_url`.
    """

    device: str
    processes: int = 1
    machines: int = 1
    machine_rank: int = 0
    dist_url: str = ""
    group_rank: int | None = None
    local_rank: int | None = None
    group_size: int | None = None
    launcher_keeps_store: bool = False

    @property
    def world_size(self) -> int:
        return self.group_size or self.processes * self.machines

    @property
    def is_first(self) -> bool:
        """Whether this process is the first of the run, or is about to start it."""
        return self.group_rank in (None, 0) and self.machine_rank == 0


def joined_group(device: str) -> LaunchPlan | None:
    """The group that torchrun or srun has put this process into, from the environment."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return _of_torchrun(device)
    if int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1 and not _is_in_shell():
        return _of_srun(device)
    return None


def check_gpus(plan: LaunchPlan, gpus: int) -> None:
    """Raise a UserError where another launcher has started more processes on this machine than it has GPUs."""
    # srun may give each process a GPU of its own, and show it no other
    own = gpus == 1 and any(name in os.environ for name in ONE_GPU_FOR_EACH_TASK)
    if plan.device == "cuda" and plan.processes > gpus and not own:
        raise UserError(
            f"{counted(plan.processes, 'process', 'processes')} were started on this machine, but this machine has "
            f"{counted(gpus, 'GPU') if gpus else 'no GPU'} for them",
            "start one for each GPU: torchrun --nproc-per-node, or srun --ntasks-per-node equal to --gpus-per-node",
        )


ONE_GPU_FOR_EACH_TASK = ("SLURM_GPUS_PER_TASK", "SLURM_TRES_PER_TASK", "SLURM_GPU_BIND")


def tasks_without_srun() -> int:
    """Tasks of the SLURM job whose script this process is in, where srun has not started it; else 0."""
    tasks = os.environ.get("SLURM_NTASKS", "")
    in_script = "SLURM_JOB_ID" in os.environ and ("SLURM_STEP_ID" not in os.environ or _is_in_shell())
    return int(tasks) if in_script and tasks.isdigit() else 0


def _of_torchrun(device: str) -> LaunchPlan:
    processes, size = _number("LOCAL_WORLD_SIZE"), _number("WORLD_SIZE")
    rank, local_rank = _number("RANK"), _number("LOCAL_RANK")
    _check_ranks(rank, size, local_rank, processes)
    machine = int(os.environ.get("GROUP_RANK", rank // processes))
    url = f"tcp://{os.environ.get('MASTER_ADDR', '127.0.0.1')}:{_number('MASTER_PORT')}"
    keeps_store = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    machines = int(os.environ.get("GROUP_WORLD_SIZE", -(-size // processes)))
    return LaunchPlan(device, processes, machines, machine, url, rank, local_rank, size, keeps_store)


def _of_srun(device: str) -> LaunchPlan:
    size, machines, machine = _number("SLURM_STEP_NUM_TASKS"), _number("SLURM_STEP_NUM_NODES"), _number("SLURM_NODEID")
    processes = _tasks_of_node(os.environ.get("SLURM_STEP_TASKS_PER_NODE", ""), machine) or -(-size // machines)
    rank, local_rank = _number("SLURM_PROCID"), _number("SLURM_LOCALID")
    _check_ranks(rank, size, local_rank, processes)
    return LaunchPlan(device, processes, machines, machine, _slurm_meeting_point(), rank, local_rank, size)


def _number(name: str) -> int:
    value = os.environ.get(name, "")
    if not value.isdigit():
        raise UserError(
            f"{name} is {value!r}, where the launcher of a process puts a number",
            "start the run by torchrun or srun, or unset TORCHELASTIC_RUN_ID and the variables of SLURM's step",
        )
    return int(value)


def _check_ranks(rank: int, size: int, local_rank: int, processes: int) -> None:
    if not (rank < size and local_rank < processes <= size):
        raise UserError(
            f"the launcher's numbers don't fit together: rank {rank} of {size}, local rank {local_rank} of {processes}",
            "start the run by torchrun or srun, which set them",
        )


def _tasks_of_node(counts: str, node: int) -> int:
    """Of SLURM's list by node, such as `2(x3),1`."""
    for count, times in re.findall(r"(\d+)(?:\(x(\d+)\))?", counts):
        node -= int(times or 1)
        if node < 0:
            return int(count)
    return 0


def _slurm_meeting_point() -> str:
    environment = os.environ
    first = _first_host(environment["SLURM_STEP_NODELIST"])
    # one port for each step of each job, also where they share a node, away from those that systems give by themselves
    number = int(environment["SLURM_JOB_ID"]) + 4001 * int(environment["SLURM_STEP_ID"])
    return f"tcp://{_address(first)}:{15000 + number % 15000}"


def _is_in_shell() -> bool:
    """Whether this process was typed into the shell of `srun --pty -n 4 bash`: the other tasks' shells are gone."""
    return "SLURM_PTY_PORT" in os.environ and os.environ.get("SLURM_TASK_PID") != str(os.getpid())


def _first_host(nodes: str) -> str:
    """Of SLURM's list, such as `n[07-09,12],m1`; its own command for that is not in every container."""
    first = re.findall(r"(?:\[[^\]]*\]|[^,\[])+", nodes)[0]
    return re.sub(r"\[([^\],-]+)[^\]]*\]", r"\1", first)


def _address(node: str) -> str:
    """The node's name, or its address where SLURM has it under a name that is not the network's."""
    try:
        socket.getaddrinfo(node, None)
        return node
    except socket.gaierror:
        command = ["scontrol", "show", "node", node]
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        return re.findall(r"NodeAddr=(\S+)", answer.stdout)[0]
