"""Processes that start in a moment, forked from one that has imported all; as torchrun starts them, if several."""

import atexit
import faulthandler
import multiprocessing
import os
import runpy
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

from tests.patience import exit_codes

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.engine.preloaded"])
_held_ports: list[socket.socket] = []


@atexit.register
def _end_all() -> None:
    """What a failed test has left must not keep the tests' process, which would wait for it."""
    if multiprocessing.parent_process() is None:
        for process in multiprocessing.active_children():
            process.kill()


def start_group(function: Callable, *arguments, processes: int = 1, log: Path | None = None) -> list[BaseProcess]:
    """Start `function(*arguments)` in so many processes, of one group if several; what they print goes to `log`."""
    environment = dict(os.environ) | {"OMP_NUM_THREADS": "1"}
    if processes > 1:
        environment |= {"TORCHELASTIC_RUN_ID": "test", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_meeting_port())}
        environment |= {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes)}
    started = []
    for rank in range(processes):
        of_rank = environment | ({"RANK": str(rank), "LOCAL_RANK": str(rank)} if processes > 1 else {})
        output = log or Path(os.devnull)
        started.append(_context.Process(target=_child, args=(of_rank, [output, output], function, arguments)))
        started[-1].start()
    return started


def run_group(function: Callable, *arguments, processes: int = 1, log: Path | None = None) -> None:
    """As `start_group`, and wait for the end; all must succeed."""
    started = start_group(function, *arguments, processes=processes, log=log)
    printed = [log] if log else []
    assert exit_codes(started, *printed) == [0] * processes, "".join(path.read_text() for path in printed)


def run_tool(
    tool: Path, *arguments: object, environment: dict[str, str] | None = None, before: Callable = bool
) -> subprocess.CompletedProcess:
    """Run a tool as `subprocess.run` would; `before` is called in its process first, as `preexec_fn`."""
    command = [str(tool), *map(str, arguments)]
    with tempfile.TemporaryDirectory() as folder:
        printed = [Path(folder) / name for name in ("stdout", "stderr")]
        process = start_tool(command, printed, environment, before)
        (code,) = exit_codes([process], *printed)
        return subprocess.CompletedProcess(command, code, *(path.read_text() for path in printed))


def start_tool(
    command: list, printed: list[Path], environment: dict[str, str] | None = None, before: Callable = bool
) -> BaseProcess:
    """Start a tool with its arguments; what it prints goes to the files of `printed`, for stdout and stderr."""
    variables = dict(os.environ if environment is None else environment) | {"OMP_NUM_THREADS": "1"}
    words = [str(word) for word in command]
    process = _context.Process(target=_run_script, args=(variables, printed, os.getcwd(), words, before))
    process.start()
    return process


def _run_script(
    variables: dict[str, str], printed: list[Path], folder: str, command: list[str], before: Callable
) -> None:
    _child(variables, printed, before, ())
    os.chdir(folder)
    sys.argv = command
    sys.path.insert(0, str(Path(command[0]).parent))
    try:
        runpy.run_path(command[0], run_name="__main__")
    finally:
        atexit._run_exitfuncs()  # which a process of multiprocessing leaves out


def _meeting_port() -> int:
    """A port that the system gives to nobody until this process ends: a socket is bound to it that never listens."""
    _held_ports.append(socket.socket())
    _held_ports[-1].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    _held_ports[-1].bind(("127.0.0.1", 0))
    return _held_ports[-1].getsockname()[1]


def _child(environment: dict[str, str], printed: list[Path], function: Callable, arguments: tuple) -> None:
    import torch

    for number, path in enumerate(printed, start=1):
        with open(path, "a") as stream:
            os.dup2(stream.fileno(), number)
    sys.stdout, sys.stderr = os.fdopen(1, "w", 1), os.fdopen(2, "w", 1)
    faulthandler.enable()
    multiprocessing.set_start_method("fork", force=True)  # the usual one on Linux, for what the function starts
    os.environ.clear()
    os.environ.update(environment)
    torch.set_num_threads(1)
    function(*arguments)
