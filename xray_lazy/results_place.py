"""Where a tool's results go: what lies there is replaced only where it is an earlier result of the same kind."""

import fcntl
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from xray_lazy.errors import UserError

ELSEWHERE = "name another one for the results, or move it away"


def check_result_file(path: str | Path, is_earlier: Callable[[Path], bool], what: str) -> None:
    """Refuse, before any work, a file for results that would replace something else.

    Args:
        path: of the file to write.
        is_earlier: whether a file is an earlier result, which may go.
        what: the results, with their article.

    Raises:
        UserError: there is another file, a folder, a pipe or a device of that name, or its folder can't be written to.
    """
    path = Path(path)
    check_result_folder(path.parent)
    if not os.path.lexists(path) or (path.is_file() and (path.stat().st_size == 0 or is_earlier(path))):
        return
    raise UserError(f"{path} is there already, and is not {what} that could be replaced", ELSEWHERE)


def check_result_folder(path: str | Path) -> None:
    """Refuse, before any work, a folder for results whose name, or a part of it, something else has, or that can't be
    written to."""
    there = next(place for place in (Path(path), *Path(path).parents) if os.path.lexists(place))
    if not there.is_dir():
        raise UserError(f"results can't go into the folder {path}: {there} is no folder", ELSEWHERE)
    if not os.access(there, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        raise UserError(f"results can't go into {path}: you may not write into {there}", ELSEWHERE)


@contextmanager
def sole_writer(folder: str | Path) -> Iterator[None]:
    """Make a folder, and be the only one on this machine who writes results into it until the block or process ends.

    A folder that is made here and stays empty is removed again.

    Raises:
        UserError: another process is at work there: the results of both would be mixed.
    """
    made = [path for path in (Path(folder), *Path(folder).parents) if not path.exists()]
    os.makedirs(folder, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        message = f"another process is writing results into {folder}"
        raise UserError(message, "let it end, or name another folder") from None
    except OSError:  # a file system without locks on folders
        pass
    try:
        yield
    finally:
        os.close(descriptor)
        with suppress(OSError):  # it has something in it
            for path in made:
                path.rmdir()


def check_no_input(targets: Iterable[Path], inputs: Iterable[Path]) -> None:
    """Refuse to write over what the results are made from, under whatever name."""
    read = {_identity(path): path for path in inputs if path.exists()}
    for target in targets:
        if target.exists() and _identity(target) in read:
            raise UserError(f"{target} is the input, which stays as it is", "give another name for the new file")


def json_with(path: Path, *keys: str) -> bool:
    """Whether a file is a JSON object with these keys, or a list of such objects."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return all(isinstance(one, dict) and set(keys) <= one.keys() for one in _as_list(content))


def _as_list(content: object) -> list:
    return content if isinstance(content, list) else [content]


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino
