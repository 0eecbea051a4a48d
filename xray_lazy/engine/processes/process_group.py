"""One process of a run: it joins the group, works, and leaves it; a failed one waits for nobody."""

import gc
import itertools
import os
import re
import socket
import time
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from xray_lazy.command_line import report_error
from xray_lazy.engine.processes.group_watch import GroupWatch
from xray_lazy.engine.processes.launch_plan import LaunchPlan
from xray_lazy.engine.processes.meeting import check_url, meet, open_store, reach_store, said_if_long
from xray_lazy.engine.processes.step_limit import end_process, set_limit
from xray_lazy.errors import EXIT_FAILURE, RunFailure
from xray_lazy.utils.interruption import ending_signal, is_silent

if TYPE_CHECKING:
    from torch.distributed import Store

# Rank 0 may evaluate or load for long while the others wait; `GroupWatch` looks after steps, which take less.
TIMEOUT = timedelta(hours=2)

# All have met at the store, which they reach; now each connects to others.
CONNECT_SECONDS = 600
_NETWORK = (
    "do the machines reach one another by the network that was chosen? NCCL_SOCKET_IFNAME (GPUs) and "
    "GLOO_SOCKET_IFNAME name another, such as eth0"
)

# A process that fails has so long to say why, before others say that they have lost it.
SAYING_SECONDS = 3

_runs = itertools.count()  # of this process: keys of an earlier run may still be in a launcher's store


def run_as_started(plan: LaunchPlan, function: Callable, arguments: tuple) -> Any:
    """`function(*arguments)` in this process of a group that torchrun or srun has started; a failure ends it."""
    host, port = check_url(plan.dist_url)
    assert plan.group_rank is not None and plan.local_rank is not None, "the launcher gave both"
    holds_store = plan.group_rank == 0 and not plan.launcher_keeps_store
    try:
        store = open_store(host, port) if holds_store else reach_store(host, port)
        prefix = f"xray_lazy_{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}_{next(_runs)}"
    except BaseException as error:
        end_process(_record(error, is_silent(error)))
    result = run_in_group(plan, plan.group_rank, plan.local_rank, (host, port), prefix, function, arguments, _record)
    if not plan.launcher_keeps_store:
        del store
        gc.collect()
        _wait_until_closed(host, port)
    return result


def run_in_group(
    plan: LaunchPlan,
    rank: int,
    local_rank: int,
    address: tuple[str, int],
    prefix: str,
    function: Callable,
    arguments: tuple,
    on_failure: Callable[[BaseException], int],
) -> Any:
    """`function(*arguments)` as a member of the group.

    Args:
        plan: of all.
        rank, local_rank: of this process, in all and on its machine.
        address: host and port of the store.
        prefix: of the run's keys in the store.
        function, arguments: the work.
        on_failure: says what the error is, and returns the exit code; called in the first process that fails. All end.
    """
    store = _with_prefix(prefix, reach_store(*address))
    watch = GroupWatch(_with_prefix(prefix, reach_store(*address)), rank, plan.world_size, on_failure)
    connected = False
    try:
        meet(store, "process", rank, plan.world_size)
        watch.expect_all()
        waiting = f"waiting until the processes reach one another, for up to {CONNECT_SECONDS // 60:.0f} minutes"
        with watch.limit.task("the connection of the processes", CONNECT_SECONDS, _NETWORK), said_if_long(waiting):
            _join(plan, rank, local_rank, store)
        connected = True
        set_limit(watch.limit)
        result = function(*arguments)
        watch.end_together()
    except BaseException as error:
        if _is_broken_connection(error):  # to a process that has failed: the watch ends this one when that says so
            time.sleep(SAYING_SECONDS)
            error = _of_lost_process(error, connected)
        if watch.is_first_failure():
            code = on_failure(error)
            watch.tell_others(code)
            end_process(code)
        time.sleep(SAYING_SECONDS)  # in which the watch ends this process as the first one says
        end_process(128 + number if (number := ending_signal(error)) else EXIT_FAILURE)
    set_limit(None)
    if rank == 0:
        watch.wait_for_leaving()
    del store, watch
    _leave_group()
    return result


def _is_broken_connection(error: BaseException) -> bool:
    from torch.distributed import DistError

    signs = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "/gloo/", "NCCL")
    return isinstance(error, DistError) or (type(error) is RuntimeError and any(sign in str(error) for sign in signs))


def _of_lost_process(error: BaseException, connected: bool = True) -> RunFailure:
    text = str(error)
    reason = text.splitlines()[0]
    if words_of_nccl := re.search(r"Last error:\s*(\S.*)", text):  # what failed; the first line has only its kind
        reason = f"{words_of_nccl[1].strip()} ({reason})"
    if "/dev/shm" in reason:
        fix = "the shared memory is full: give a container more with --shm-size, or --ipc=host"
    elif words_of_nccl and "ncclRemoteError" not in text:
        fix = "NCCL_DEBUG=INFO shows the path at fault, and NCCL_P2P_DISABLE=1 or NCCL_IB_DISABLE=1 does without it"
    elif not connected:
        fix = _NETWORK
    else:
        fix = "it may have been killed, for memory or by hand: its log or `dmesg` tells; then --resume"
    broken = f"the connection to another process of the run is broken: {reason}"
    told = RunFailure(broken if connected else f"no connection to another process: {reason}", fix)
    told.__cause__ = error
    return told


def _record(error: BaseException, silently: bool = False) -> int:
    from torch.distributed.elastic.multiprocessing.errors import get_error_handler

    code = report_error(error, silently)
    get_error_handler().record_exception(error)  # into the file that torchrun asks for, if any
    return code


def _with_prefix(prefix: str, store: "Store") -> "Store":
    import torch.distributed

    return torch.distributed.PrefixStore(prefix, store)


def _join(plan: LaunchPlan, rank: int, local_rank: int, store: "Store") -> None:
    import torch
    from detectron2.utils import comm

    # NCCL asks the store for a late process, too, and would fail where its own time-out is over
    store.set_timeout(TIMEOUT)
    on_gpu = plan.device == "cuda"
    if on_gpu:
        # srun may give each process a GPU of its own, and show it no other
        torch.cuda.set_device(local_rank % torch.cuda.device_count())
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // plan.processes))
    torch.distributed.init_process_group(
        backend="nccl" if on_gpu else "gloo", store=store, world_size=plan.world_size, rank=rank, timeout=TIMEOUT
    )
    # detectron2 makes these two groups by itself, with torch's time-outs, and the first by ranks that it guesses
    machines: dict[int, list[int]] = {}
    store.set(f"machine_of_{rank}", str(plan.machine_rank))
    for other in range(plan.world_size):
        machines.setdefault(int(store.get(f"machine_of_{other}")), []).append(other)
    local = {
        machine: torch.distributed.new_group(ranks, timeout=TIMEOUT) for machine, ranks in sorted(machines.items())
    }
    comm._LOCAL_PROCESS_GROUP = local[plan.machine_rank]
    if on_gpu:
        objects = torch.distributed.new_group(backend="gloo", timeout=TIMEOUT)
        _default_object_group.append(comm._get_global_gloo_group)
        comm._get_global_gloo_group = lambda: objects
    comm.synchronize()  # the first collective connects the GPUs: now, while all are here, or with an error at the start


_default_object_group: list[Callable] = []


def _leave_group() -> None:
    """End the group with its threads: one that is at work when Python ends would abort the process."""
    import torch
    from detectron2.utils import comm

    # detectron2's references to it, which would keep the threads
    if _default_object_group:
        comm._get_global_gloo_group = _default_object_group.pop()
    comm._get_global_gloo_group.cache_clear()
    comm._LOCAL_PROCESS_GROUP = None
    torch.distributed.destroy_process_group()
    gc.collect()  # a trainer and its hooks, which refer to each other, hold a data-parallel model, and that the group


def _wait_until_closed(host: str, port: int) -> None:
    """Another run of this process meets at the same port, and must not find the store of this one."""
    for _ in range(100):
        try:
            socket.create_connection((host, port), timeout=2).close()
        except OSError:
            return
        time.sleep(0.05)
