#!/usr/bin/env python3
"""A real SLURM cluster on one machine: nodes n1 and n2, partitions main and high (which preempts), and accounting.

    cluster.py up       start it, or what of it is not running; then: export SLURM_CONF=...
    cluster.py down     stop what `up` started
    cluster.py status   nodes and jobs

It needs root and Debian's or Ubuntu's packages, and nothing of an installed SLURM's configuration.
XRAY_SLURM_FOLDER: where all its files are (default output/slurm).
XRAY_SLURM_PORT: the first of the 5 ports of this machine that it takes (default 16810).
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from string import Template

PACKAGES = {
    "munged": "munge",
    "slurmctld": "slurmctld",
    "slurmd": "slurmd",
    "sinfo": "slurm-client",
    "slurmdbd": "slurmdbd",
    "mariadbd": "mariadb-server",
}
# Debian puts daemons where a user's path does not look
SEARCH_PATH = os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin"
NODES = ("n1", "n2")
# clients and daemons before what they serve
STOP_ORDER = ("slurmd.n1", "slurmd.n2", "slurmctld", "slurmdbd", "mariadb", "munged")
CONFIGS = ("slurm.conf", "slurmdbd.conf", "gres.conf")
PORTS = ("slurmctld_port", "slurmdbd_port", "database_port", "n1_port", "n2_port")
CLUSTER = "xraytest"
PASSWORD = "only-reached-from-this-machine"
COMMAND_SECONDS = 30  # SLURM's clients may wait for ever where a daemon is away


class ClusterError(Exception):
    """What the person can do something about."""


def main() -> int:
    actions = {"up": up, "down": down, "status": status}
    if len(sys.argv) != 2 or sys.argv[1] not in actions:
        print(__doc__, end="", file=sys.stderr)
        return 2
    folder = Path(os.environ.get("XRAY_SLURM_FOLDER", "output/slurm")).resolve()
    os.environ["PATH"] = SEARCH_PATH
    os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
    try:
        actions[sys.argv[1]](folder)
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: `make slurm-up` goes on, `make slurm-down` ends what runs already", file=sys.stderr)
        return 130
    return 0


def up(folder: Path) -> None:
    """Start each daemon that is not running, and wait until both nodes take jobs."""
    check_machine()
    folder.mkdir(parents=True, exist_ok=True)
    if not any(running(folder, name) for name in STOP_ORDER):
        write_configs(folder)
    if not running(folder, "munged"):
        start_munge(folder)
    if not running(folder, "mariadb"):
        start_database(folder)
    if not running(folder, "slurmdbd"):
        start("slurmdbd")
        wait_for("the accounting", lambda: answers("sacctmgr", "-n", "show", "cluster"), folder / "slurmdbd.log")
        run("sacctmgr", "-n", "-i", "add", "cluster", CLUSTER, check=False)  # fails where it is there already
    if not running(folder, "slurmctld"):
        start("slurmctld", "-i")
    for node in NODES:
        if not running(folder, f"slurmd.{node}"):
            start("slurmd", "-N", node)
    wait_for("the nodes", nodes_are_up, folder / "slurmctld.log")
    print(f"export SLURM_CONF={folder / 'slurm.conf'}")


def down(folder: Path) -> None:
    """End all jobs, then the daemons, by their pid files."""
    if running(folder, "slurmctld"):
        run("scancel", "--user=root", check=False)
        with contextlib.suppress(ClusterError):  # daemons end without them
            wait_for("the end of all jobs", lambda: not run("squeue", "-h").strip(), None, seconds=20)
    for name in STOP_ORDER:
        stop(folder, name)
    for gpu in folder.glob("gpu[0-3]"):
        gpu.unlink()


def status(folder: Path) -> None:
    if not running(folder, "slurmctld"):
        raise ClusterError(f"no cluster is up in {folder}")
    print(run("sinfo", "-N", "-o", "%N %P %T"), run("squeue"), sep="\n", end="")


def check_machine() -> None:
    missing = [package for program, package in PACKAGES.items() if not shutil.which(program, path=SEARCH_PATH)]
    if missing:
        line = f"apt-get install -y --no-install-recommends {' '.join(missing)}"
        raise ClusterError(f"this machine has no {', '.join(missing)}\n  fix: {line}")
    if os.geteuid() != 0:
        raise ClusterError("the test cluster's daemons need root\n  fix: run this as root, as in a container")


def write_configs(folder: Path) -> None:
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    values = {
        "cluster": CLUSTER,
        "host": socket.gethostname().split(".")[0],
        "folder": folder,
        "memory": pages * size // 2**20,
        "password": PASSWORD,
        **ports(),
    }
    for name in CONFIGS:
        template = Path(__file__).with_name(f"{name}.template").read_text()
        path = folder / name
        path.write_text(Template(template).substitute(values))
        path.chmod(0o600 if name == "slurmdbd.conf" else 0o644)  # slurmdbd refuses one that others can read
    for number in range(4):
        gpu = folder / f"gpu{number}"
        if not gpu.exists():
            gpu.symlink_to("/dev/null")


def ports() -> dict[str, int]:
    first = int(os.environ.get("XRAY_SLURM_PORT", 16810))
    return {name: first + number for number, name in enumerate(PORTS)}


def start_munge(folder: Path) -> None:
    key = folder / "munge.key"
    if not key.exists():
        key.touch(0o600)
        key.write_bytes(os.urandom(128))
    files = {"socket": "munge.socket", "pid-file": "munged.pid", "log-file": "munged.log", "seed-file": "munge.seed"}
    options = [f"--{option}={folder / name}" for option, name in files.items()]
    # --force: the folder may be in one that others can write into
    start("munged", "--force", f"--key-file={key}", *options)
    wait_for("munge", (folder / "munge.socket").exists, folder / "munged.log")


def start_database(folder: Path) -> None:
    data = folder / "database"
    fresh = not (data / "mysql").is_dir()
    if fresh:
        as_root = ("--user=root", "--auth-root-authentication-method=normal", "--skip-test-db")
        run("mariadb-install-db", "--no-defaults", f"--datadir={data}", *as_root)
    options = {
        "user": "root",
        "datadir": data,
        "socket": folder / "mariadb.socket",
        "pid-file": folder / "mariadb.pid",
        "log-error": folder / "mariadb.log",
        "bind-address": "127.0.0.1",
        "port": ports()["database_port"],
        "innodb-buffer-pool-size": "128M",  # slurmdbd warns of less, and of a shorter wait for locks
        "innodb-lock-wait-timeout": 900,
    }
    start("mariadbd", "--no-defaults", *(f"--{name}={value}" for name, value in options.items()))
    ask = ("mariadb", "--no-defaults", f"--socket={options['socket']}", "-e")
    wait_for("the data base", lambda: answers(*ask, "select 1"), folder / "mariadb.log")
    user = "slurm@'127.0.0.1'"
    run(*ask, f"create user if not exists {user} identified by '{PASSWORD}'; grant all on *.* to {user}")


def nodes_are_up() -> bool:
    states = run("sinfo", "-h", "-N", "-p", "main", "-o", "%T", check=False).split()
    return len(states) == len(NODES) and all(state in ("idle", "mixed", "allocated") for state in states)


def start(*command: str) -> None:
    """Start a daemon; those that do not leave for the background themselves are left there."""
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.Popen(command, **quiet, start_new_session=True)


def running(folder: Path, name: str) -> int | None:
    """The process id of a daemon that runs, by its pid file."""
    try:
        pid = int((folder / f"{name}.pid").read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return None
    # after a restart of the machine the number may be another program's
    return pid if name.split(".")[0].encode() in command else None


def stop(folder: Path, name: str) -> None:
    pid = running(folder, name)
    if pid:
        os.kill(pid, signal.SIGTERM)
        wait_for(f"the end of {name}", lambda: not running(folder, name), None)
    (folder / f"{name}.pid").unlink(missing_ok=True)


def run(*command: str, check: bool = True) -> str:
    """The output of a command."""
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_SECONDS)
    except subprocess.TimeoutExpired:
        raise ClusterError(f"no answer from {' '.join(command)} within {COMMAND_SECONDS} s") from None
    if check and answer.returncode:
        raise ClusterError(f"{' '.join(command)} failed: {(answer.stderr or answer.stdout).strip()}")
    return answer.stdout


def answers(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=5).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def wait_for(what: str, condition: Callable[[], bool], log: Path | None, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            last = log.read_text(errors="replace").splitlines()[-5:] if log and log.exists() else []
            raise ClusterError("\n  ".join([f"waited {seconds:.0f} s for {what}", *last]))
        time.sleep(0.1)


if __name__ == "__main__":
    sys.exit(main())
