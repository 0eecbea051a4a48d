"""A copy of the code that a job was submitted with: what is edited later doesn't change queued work."""

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

import xray_lazy
from xray_lazy.errors import UserError
from xray_lazy.tracking.code_state import git_answer, keep_git_state

MAX_MEGABYTES = 200
SHOWN_FILES = 5


def take_snapshot(store: str | os.PathLike, checkout: str | os.PathLike | None = None) -> Path | None:
    """Copy the checkout's files into `<store>/<hash of their content>/`; one that is there is taken as it is.

    These are the tracked files as they are now, and new ones that git does not ignore; and what git knows of them.

    Args:
        store: a folder that the compute nodes see.
        checkout: the root of a git checkout; by default the one that this package is imported from.

    Returns:
        The copy; None where the package is installed and not imported from a checkout.

    Raises:
        UserError: the files are more than a snapshot should hold, or can't be copied.
    """
    checkout = Path(checkout) if checkout else find_checkout()
    if checkout is None:
        return None
    files = _listed_files(checkout)
    _check_size(checkout, files)
    store = Path(store)
    try:
        store.mkdir(parents=True, exist_ok=True)
        return _copy(checkout, files, store)
    except OSError as error:
        raise UserError(
            f"can't copy the code into {store}: {error}", "free some space, or choose another folder"
        ) from None


def find_checkout() -> Path | None:
    """The root of the git checkout that this package is imported from; None if it is installed, or without git."""
    root = Path(xray_lazy.__file__).resolve().parents[1]
    top = git_answer(root, "rev-parse", "--show-toplevel")
    return root if top and Path(top.decode().strip()).resolve() == root else None


def import_paths(code: str | os.PathLike) -> list[str]:
    """What Python's path needs to import everything from a snapshot: itself and each project's folder."""
    code = Path(code)
    projects = sorted(folder for folder in code.glob("projects/*") if folder.is_dir())
    return [str(path) for path in (code, *projects)]


def _listed_files(checkout: Path) -> list[str]:
    answer = git_answer(checkout, "ls-files", "-z", "--cached", "--others", "--exclude-standard", timeout=None)
    if answer is None:
        raise UserError(f"git can't list the files of {checkout}", "`git status` there says why")
    names = sorted({os.fsdecode(name) for name in answer.split(b"\0") if name})
    # deleted ones are listed until the deletion is committed; folders are other repositories
    return [name for name in names if (checkout / name).is_symlink() or (checkout / name).is_file()]


def _check_size(checkout: Path, files: list[str]) -> None:
    sizes = {name: (checkout / name).lstat().st_size for name in files}
    total = sum(sizes.values()) / 1e6
    if total > MAX_MEGABYTES:
        largest = sorted(sizes, key=lambda name: -sizes[name])[:SHOWN_FILES]
        shown = "".join(f"\n    {sizes[name] / 1e6:8.1f} MB  {name}" for name in largest)
        raise UserError(
            f"the code in {checkout} is {total:.0f} MB, and a snapshot holds at most {MAX_MEGABYTES}:{shown}",
            "list what is not code in .gitignore",
        )


def _copy(checkout: Path, files: list[str], store: Path) -> Path:
    """Copy and hash in one pass, so that the name is that of what was copied."""
    digest = hashlib.sha256()
    temporary = Path(tempfile.mkdtemp(prefix=".snapshot.", dir=store))
    try:
        for name in files:
            source, target = checkout / name, temporary / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_symlink():
                content = os.fsencode(os.readlink(source))
                target.symlink_to(os.readlink(source))
            else:
                content = source.read_bytes()
                target.write_bytes(content)
                shutil.copymode(source, target)
            kind = "link" if source.is_symlink() else "program" if os.access(source, os.X_OK) else "file"
            digest.update(f"{kind} {len(content)} {name}\0".encode(errors="surrogateescape") + content)
        final = store / digest.hexdigest()[:16]
        if not final.is_dir():
            keep_git_state(checkout, temporary)
            temporary.chmod(0o755)  # mkdtemp's is private, and colleagues may look at a job's code
            try:
                temporary.rename(final)
            except OSError:
                if not final.is_dir():  # of the same code, by another one who submits
                    raise
        return final
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
