"""Start the processes of a run: one here, several on this machine, or as one of a group that torchrun or srun made."""

import logging
import multiprocessing.connection
import os
import signal
import socket
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from xray_lazy.engine.processes.launch_plan import LaunchPlan, check_gpus, joined_group, tasks_without_srun
from xray_lazy.engine.processes.meeting import check_url, meet, open_store, reach_store
from xray_lazy.engine.processes.process_group import run_as_started, run_in_group
from xray_lazy.engine.processes.step_limit import end_process
from xray_lazy.errors import RunFailure, UserError
from xray_lazy.failure import FAILURE_FILE, Failure, read_failure
from xray_lazy.utils.interruption import (
    ENDING,
    Insistence,
    end_on_signals,
    end_with_parent,
    error_of,
    heard,
    signal_of_exit,
    signals_are_caught,
)
from xray_lazy.utils.wording import counted

# Where one process fails, the others wait for it in vain: so long until they are told to end, and again until killed.
GRACE_SECONDS = 5
# For processes of other machines, which ask the first machine's store how the run ended.
STORE_SECONDS = 2

logger = logging.getLogger(__name__)


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
    group = joined_group(device)
    if group:
        _check_joined(group, num_gpus if device == "cuda" else num_processes, num_machines, gpus, dist_url)
        return group
    _check_machines(num_machines, machine_rank, dist_url)
    processes = (num_gpus if device == "cuda" else num_processes) or 1
    if device == "cuda" and processes > gpus:
        wanted = f"{counted(processes, 'GPU')} asked for"
        instead = f"use --num-gpus {gpus}" if gpus else "run on the CPU: --num-processes 1 train.device=cpu"
        raise UserError(f"{wanted}, but this machine has {gpus or 'none'}", instead)
    if (tasks := tasks_without_srun()) > processes * num_machines:
        logger.warning(
            "SLURM has given this job %d tasks, but it trains in %s: start the command with srun to use all of them",
            tasks,
            counted(processes * num_machines, "process", "processes"),
        )
    if processes * num_machines == 1:
        if (size := os.environ.get("WORLD_SIZE", "")).isdigit() and int(size) > 1 and "RANK" in os.environ:
            logger.warning(
                "WORLD_SIZE is %s and RANK %s, but this process trains alone: start it with torchrun or srun, or name "
                "--num-machines, --machine-rank and --dist-url",
                *(size, os.environ["RANK"]),
            )
        return LaunchPlan(device)
    return LaunchPlan(device, processes, num_machines, machine_rank, "" if dist_url == "auto" else dist_url)


def _check_machines(num_machines: int, machine_rank: int, dist_url: str) -> None:
    if num_machines < 1:
        raise UserError(f"--num-machines is {num_machines}", "give the number of machines, 1 or more")
    if not 0 <= machine_rank < num_machines:
        raise UserError(
            f"--machine-rank {machine_rank} is not one of {counted(num_machines, 'machine')}",
            f"they count from 0 to {num_machines - 1}; --num-machines says how many there are",
        )
    if dist_url == "auto":
        if num_machines > 1:
            fix = "give --dist-url tcp://HOST:PORT with machine 0's host"
            raise UserError("--dist-url auto is for one machine", fix)
        return
    host, port = check_url(dist_url)
    try:
        socket.getaddrinfo(host, port)
    except OSError as error:
        raise UserError(f"--dist-url names {host}, which can't be found: {error}", "give a name or address") from None


def _check_joined(group: LaunchPlan, processes: int | None, num_machines: int, gpus: int, dist_url: str) -> None:
    """What the command line says beside another launcher must be what that has started."""
    name = "--num-gpus" if group.device == "cuda" else "--num-processes"
    if processes and processes != group.processes:
        raise UserError(
            f"{name} is {processes}, but torchrun or srun has started {group.processes} on this machine",
            f"leave {name} out beside another launcher",
        )
    if num_machines not in (1, group.machines):
        raise UserError(
            f"--num-machines is {num_machines}, but torchrun or srun has started the run on {group.machines}",
            "leave --num-machines out beside another launcher",
        )
    if dist_url != "auto":
        raise UserError("--dist-url is for our own launcher", "leave it out beside torchrun and srun, which know it")
    check_gpus(group, gpus)


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
        return run_as_started(plan, function, arguments)
    if plan.world_size == 1:
        try:
            return function(*arguments)
        except (Exception, KeyboardInterrupt, SystemExit) as error:
            Failure.of(error).tell()
            raise
    return _spawn(plan, function, arguments)


def _spawn(plan: LaunchPlan, function: Callable, arguments: tuple) -> None:
    # held here: it outlives each of the processes, and they hear of each other's failures
    store = None
    if not plan.dist_url:
        store = open_store("127.0.0.1", 0)
        address = ("127.0.0.1", store.port)
    else:
        address = check_url(plan.dist_url)
        store = open_store(*address) if plan.machine_rank == 0 else reach_store(*address)
        meet(store, "machine", plan.machine_rank, plan.machines)
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="xray_lazy_") as folder:
        processes = [
            context.Process(target=_child, args=(rank, plan, address, function, arguments, folder))
            for rank in range(plan.processes)
        ]
        forward = _SignalForwarder(processes)
        with heard(FORWARDED_SIGNALS, forward):
            try:
                for process in processes:
                    process.start()
                error = _wait_for(processes, plan, Path(folder) / FAILURE_FILE)
            finally:
                _end(processes)  # also after a second signal
        if plan.machine_rank == 0:
            _wait_for_machines(store, plan)
        if error:
            raise error


def _wait_for(processes: list, plan: LaunchPlan, failure_file: Path) -> BaseException | None:
    """Why the first process failed that did, or None when all have succeeded."""
    running = {process.sentinel: process for process in processes}
    while running:
        for sentinel in multiprocessing.connection.wait(running):
            process = running.pop(sentinel)
            process.join()
            if process.exitcode:
                rank = plan.machine_rank * plan.processes + processes.index(process)
                return _error_of(process.exitcode, rank, failure_file, plan.machines)
    return None


def _error_of(code: int, rank: int, failure_file: Path, machines: int = 1) -> BaseException:
    failure = read_failure(failure_file)
    # Of a process that was killed, others say that they have lost it. One that has told its own error may be killed by
    # a thread of NCCL, which met the same error of the GPU.
    if failure and (code > 0 or failure.rank == rank):
        return failure.error()
    if ending := signal_of_exit(code):
        return error_of(ending)
    if code > 0 and machines > 1:  # its own error it would have told
        kind = UserError if code == UserError.exit_code else RunFailure
        return kind("the run has failed on another machine", "what is wrong is said there, and in failure.json")
    how = f"by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    error = RunFailure(
        f"process {rank} ended without a word ({how})",
        "it may have been killed for memory; use fewer processes, workers or smaller batches, then --resume",
    )
    Failure.of(error, rank=rank).tell()  # before the others do
    return error


def _end(processes: list) -> None:
    """Those that still run have a while to end by themselves, and another after SIGTERM, unless a signal comes."""
    started = [process for process in processes if process.pid]
    try:
        for ask in (lambda process: None, lambda process: process.terminate()):
            for process in started:
                if process.is_alive():
                    ask(process)
            end = time.monotonic() + GRACE_SECONDS
            for process in started:
                process.join(max(0, end - time.monotonic()))
    finally:
        for process in started:
            process.kill()


FORWARDED_SIGNALS = (*ENDING, signal.SIGUSR2)


class _SignalForwarder:
    """Hand signals on to the processes, which end in order; a second SIGINT or SIGTERM ends this one, too."""

    def __init__(self, processes: list):
        self.processes, self.insists = processes, Insistence()

    def __call__(self, number: int, frame: object) -> None:
        for process in self.processes:
            if process.is_alive():
                os.kill(process.pid, number)
        if self.insists(number):
            raise error_of(number)


def _child(
    local_rank: int, plan: LaunchPlan, address: tuple[str, int], function: Callable, arguments: tuple, folder: str
) -> None:
    rank = plan.machine_rank * plan.processes + local_rank
    os.setpgrp()  # each signal comes once, from the parent, also where a terminal signals the whole group
    end_on_signals(is_told=False)
    signals_are_caught()
    end_with_parent()

    def record(error: BaseException) -> int:
        failure = Failure.of(error, rank=rank)
        if not isinstance(error, KeyboardInterrupt):
            failure.write(Path(folder) / FAILURE_FILE)  # for the parent to raise; first, as the run's disk may hang
        failure.tell()
        return failure.exit_code

    try:
        run_in_group(plan, rank, local_rank, address, "group", function, arguments, record)
    except BaseException as error:  # before it was in the group
        end_process(record(error))


def _wait_for_machines(store: Any, plan: LaunchPlan) -> None:
    """Processes of other machines may still ask the store how all ended."""
    if plan.machines > 1:
        time.sleep(STORE_SECONDS)
