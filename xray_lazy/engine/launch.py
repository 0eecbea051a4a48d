"""Start the processes of a run: one here, several on this machine, or as one of a group that torchrun or srun made."""

import gc
import os
import pickle
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from xray_lazy.command_line import EXIT_INTERRUPTED
from xray_lazy.errors import RunFailure, UserError
from xray_lazy.wording import counted

# Rank 0 may evaluate or load for long while the others wait.
TIMEOUT = timedelta(hours=2)
# Where one process fails, the others wait for it in vain: so long until they are told to end, and again until killed.
GRACE_SECONDS = 5


@dataclass(frozen=True)
class LaunchPlan:
    """The processes of a run.

    Attributes:
        device: "cuda" or "cpu"; every process of a CUDA run has the GPU of its local rank.
        processes: on this machine.
        machines: in the run.
        machine_rank: of this machine.
        dist_url: where the processes meet; "" for a single one.
        group_rank: this process's rank, where another launcher has started it; else None.
    """

    device: str
    processes: int = 1
    machines: int = 1
    machine_rank: int = 0
    dist_url: str = ""
    group_rank: int | None = None

    @property
    def world_size(self) -> int:
        return self.processes * self.machines


def plan_launch(
    device: str,
    num_gpus: int | None = None,
    num_processes: int | None = None,
    num_machines: int = 1,
    machine_rank: int = 0,
    dist_url: str = "auto",
) -> LaunchPlan:
    """Decide on the processes from what was asked for and what there is.

    Args:
        device: the config's `train.device`: "auto", "cuda" or "cpu".
        num_gpus: processes on this machine, each with a GPU; None for one where there is one.
        num_processes: processes on this machine's CPU.
        num_machines: machines of the run, each with the same number of processes.
        machine_rank: number of this machine, from 0.
        dist_url: `tcp://host:port` of machine 0, or "auto" on a single machine.

    Raises:
        UserError: there are fewer GPUs than asked for, or the arguments don't fit together.
    """
    if num_gpus and num_processes:
        raise UserError("--num-gpus and --num-processes exclude each other", "give one; --num-processes is for the CPU")
    gpus = count_gpus()
    if num_gpus and device == "cpu":
        raise UserError("--num-gpus is given, but train.device is cpu", "use --num-processes for processes on the CPU")
    if num_processes and device == "cuda":
        raise UserError("--num-processes is given, but train.device is cuda", "use --num-gpus, or train.device=cpu")
    if device == "auto":
        device = "cpu" if num_processes or (num_gpus is None and not gpus) else "cuda"
    if device not in ("cuda", "cpu"):
        raise UserError(f"train.device is {device!r}", "it may be auto, cuda or cpu")
    group = _group_of_other_launcher(device)
    if group:
        return group
    processes = (num_gpus if device == "cuda" else num_processes) or 1
    if device == "cuda" and processes > gpus:
        wanted = f"{counted(processes, 'GPU')} asked for"
        instead = f"use --num-gpus {gpus}" if gpus else "run on the CPU: --num-processes 1 train.device=cpu"
        raise UserError(f"{wanted}, but this machine has {gpus or 'none'}", instead)
    if processes * num_machines == 1:
        return LaunchPlan(device)
    return LaunchPlan(device, processes, num_machines, machine_rank, _meeting_point(dist_url, num_machines))


def count_gpus() -> int:
    """CUDA devices that torch can use."""
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def run_processes(plan: LaunchPlan, function: Callable, *arguments: Any) -> Any:
    """Call `function(*arguments)` in every process of the plan; returns its result where there is one process only.

    Raises:
        UserError, RunFailure: as a process raised it first; the others are ended.
    """
    if plan.group_rank is not None:
        local_rank = plan.group_rank % plan.processes
        return _in_group(plan, local_rank, plan.group_rank, function, arguments)
    if plan.world_size == 1:
        return function(*arguments)
    return _spawn(plan, function, arguments)


def _spawn(plan: LaunchPlan, function: Callable, arguments: tuple) -> None:
    import torch.multiprocessing

    with tempfile.TemporaryDirectory(prefix="xray_lazy_") as folder:
        context = torch.multiprocessing.start_processes(
            _child, (plan, function, arguments, folder), nprocs=plan.processes, join=False, start_method="spawn"
        )
        forward = _SignalForwarder(context.processes)
        previous = {number: signal.signal(number, forward) for number in FORWARDED_SIGNALS}
        try:
            while not context.join(grace_period=GRACE_SECONDS):
                pass
        except torch.multiprocessing.ProcessExitedException as error:
            if error.exit_code == EXIT_INTERRUPTED:
                raise KeyboardInterrupt from None
            raise _first_error(Path(folder)) or RunFailure(
                f"process {error.error_index} ended without a word ({error})",
                "it may have been killed for memory; use fewer processes, workers or smaller batches, then --resume",
            ) from None
        except torch.multiprocessing.ProcessRaisedException as error:
            raise _first_error(Path(folder)) or RunFailure(str(error)) from None
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


FORWARDED_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)


class _SignalForwarder:
    """Hand signals on to the processes, which end in order; a second SIGINT ends this one, too."""

    def __init__(self, processes: list):
        self.processes, self.interrupts = processes, 0

    def __call__(self, number: int, frame: object) -> None:
        for process in self.processes:
            if process.is_alive():
                os.kill(process.pid, number)
        self.interrupts += number == signal.SIGINT
        if self.interrupts > 1:
            raise KeyboardInterrupt


def _child(local_rank: int, plan: LaunchPlan, function: Callable, arguments: tuple, folder: str) -> None:
    rank = plan.machine_rank * plan.processes + local_rank
    os.setpgrp()  # each signal comes once, from the parent, also where a terminal signals the whole group
    try:
        _in_group(plan, local_rank, rank, function, arguments)
    except UserError as error:
        with tempfile.NamedTemporaryFile(dir=folder, suffix=".pickle", delete=False) as stream:
            pickle.dump(error, stream)
        raise
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)  # torch would let the process end as if all were done


def _first_error(folder: Path) -> UserError | None:
    for path in sorted(folder.glob("*.pickle"), key=lambda p: p.stat().st_mtime_ns):
        if path.stat().st_size:
            return pickle.loads(path.read_bytes())
    return None


def _in_group(plan: LaunchPlan, local_rank: int, rank: int, function: Callable, arguments: tuple) -> Any:
    import torch
    from detectron2.utils import comm

    if plan.device == "cuda":
        # srun may give each process a GPU of its own, and show it no other
        torch.cuda.set_device(local_rank % torch.cuda.device_count())
    elif "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // plan.processes))
    torch.distributed.init_process_group(
        backend="nccl" if plan.device == "cuda" else "gloo",
        init_method=plan.dist_url,
        world_size=plan.world_size,
        rank=rank,
        timeout=TIMEOUT,
    )
    comm.create_local_process_group(plan.processes)
    try:
        return function(*arguments)
    finally:
        _leave_group()


def _leave_group() -> None:
    """End the group with its threads: one that is at work when Python ends would abort the process."""
    import torch
    from detectron2.utils import comm

    # detectron2's references to it, which would keep the threads
    comm._get_global_gloo_group.cache_clear()
    comm._LOCAL_PROCESS_GROUP = None
    torch.distributed.destroy_process_group()
    gc.collect()  # a trainer and its hooks, which refer to each other, hold a data-parallel model, and that the group


def _meeting_point(dist_url: str, num_machines: int) -> str:
    if dist_url != "auto":
        return dist_url
    if num_machines > 1:
        raise UserError("--dist-url auto is for one machine", "give --dist-url tcp://HOST:PORT with machine 0's host")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"


def _group_of_other_launcher(device: str) -> LaunchPlan | None:
    """The group that torchrun or srun has put this process into, from the environment."""
    environment = os.environ
    if "TORCHELASTIC_RUN_ID" in environment:
        processes = int(environment["LOCAL_WORLD_SIZE"])
        machines = int(environment["WORLD_SIZE"]) // processes
        return LaunchPlan(device, processes, machines, dist_url="env://", group_rank=int(environment["RANK"]))
    tasks = int(environment.get("SLURM_STEP_NUM_TASKS", 1))
    if tasks == 1 or _is_in_shell():
        return None
    machines = int(environment["SLURM_STEP_NUM_NODES"])
    return LaunchPlan(
        device,
        tasks // machines,
        machines,
        dist_url=_slurm_meeting_point(),
        group_rank=int(environment["SLURM_PROCID"]),
    )


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
    first = re.match(r"(?:\[[^\]]*\]|[^,\[])+", nodes)[0]
    return re.sub(r"\[([^\],-]+)[^\]]*\]", r"\1", first)


def _address(node: str) -> str:
    """The node's name, or its address where SLURM has it under a name that is not the network's."""
    try:
        socket.getaddrinfo(node, None)
        return node
    except socket.gaierror:
        command = ["scontrol", "show", "node", node]
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        return re.search(r"NodeAddr=(\S+)", answer.stdout)[1]
