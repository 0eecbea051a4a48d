"""A git checkout that tests change."""

import subprocess
from pathlib import Path


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", "-C", folder, *arguments], check=True, capture_output=True, text=True).stdout.strip()


def make_checkout(folder: Path) -> Path:
    """One commit with one file, `code.py`, on the branch `trunk`."""
    folder.mkdir()
    (folder / "code.py").write_text("a = 1\n")
    git(folder, "init", "-q", "-b", "trunk")
    git(folder, "add", ".")
    git(folder, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "-m", "first")
    return folder
