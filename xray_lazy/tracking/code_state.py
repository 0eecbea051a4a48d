"""Which code ran: the commit of a git checkout, and what was changed since."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import xray_lazy
from xray_lazy.tracking.redaction import without_secrets
from xray_lazy.utils.atomic_file import write_json

LARGEST_DIFF = 2**20  # bytes; what is longer is data or generated files
# in a copy of a checkout, which is no checkout itself
KEPT_FILE = ".git_state.json"


def code_folder() -> Path:
    """Where to ask for the code that runs: the copy of a checkout that it is imported from, else the present folder."""
    imported_from = Path(xray_lazy.__file__).resolve().parents[1]
    return imported_from if (imported_from / KEPT_FILE).is_file() else Path.cwd()


def keep_git_state(checkout: str | os.PathLike, copy: str | os.PathLike) -> None:
    """Write into a copy of a checkout's files what `git_state` and `git_diff` are to tell there."""
    write_json(Path(copy) / KEPT_FILE, {"state": git_state(checkout), "diff": git_diff(checkout)}, indent=2)


def git_state(folder: str | os.PathLike) -> dict[str, Any] | None:
    """What git knows of the checkout around `folder`, or of the one that it is a copy of.

    Returns:
        commit, branch (None when detached), remote (the URL of origin without its password, or None) and dirty,
        whether tracked files differ from the commit. None where there is no checkout, no git, or git doesn't answer
        within 10 s.
    """
    kept = Path(folder) / KEPT_FILE
    if kept.is_file():
        return json.loads(kept.read_bytes())["state"]
    status = git_answer(folder, "status", "--porcelain=v2", "--branch", "--untracked-files=no")
    if status is None:
        return None
    lines = status.decode(errors="replace").splitlines()
    header = dict(line[2:].split(" ", 1) for line in lines if line.startswith("# "))
    commit, branch = header.get("branch.oid"), header.get("branch.head")
    remote = git_answer(folder, "config", "--get", "remote.origin.url")
    return {
        "commit": None if commit == "(initial)" else commit,
        "branch": None if branch == "(detached)" else branch,
        "remote": without_secrets(remote.decode(errors="replace").strip()) if remote else None,
        "dirty": any(not line.startswith("#") for line in lines),
    }


def git_diff(folder: str | os.PathLike) -> str:
    """How tracked files differ from the commit, for `git apply`; what is longer than 1 MiB is cut off.

    Secrets are replaced, and files that git doesn't know are not in it. Empty where git has nothing to say.
    """
    kept = Path(folder) / KEPT_FILE
    if kept.is_file():
        return json.loads(kept.read_bytes())["diff"]
    diff = git_answer(folder, "diff", "HEAD", "--no-color", "--no-ext-diff")
    if not diff:
        return ""
    text = without_secrets(diff[:LARGEST_DIFF].decode(errors="replace"))
    return text if len(diff) <= LARGEST_DIFF else f"{text}\n# cut off: the whole diff has {len(diff)} bytes\n"


def git_answer(folder: str | os.PathLike, *arguments: str, timeout: float | None = 10) -> bytes | None:
    """What git answers; None where it fails, takes more than `timeout` seconds, or isn't there."""
    # without optional locks: many runs may ask at once, and the checkout may be read-only
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    try:
        command = ["git", "-C", str(Path(folder)), *arguments]
        return subprocess.run(command, capture_output=True, timeout=timeout, env=environment, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
