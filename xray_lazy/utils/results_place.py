"""Where a tool's results go: what lies there is replaced only where it is an earlier result of the same kind."""

import fcntl
import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from xray_lazy.errors import RunFailure, UserError
from xray_lazy.utils.atomic_file import write_json

ELSEWHERE = "name another one for the results, or move it away"
EARLIER = ".earlier"  # beside what is to replace it
RECORD = ".written"  # in a folder of results: its files, and the checksums of those that people correct


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


def check_json_file(path: str | Path, what: str, *keys: str) -> None:
    """As `check_result_file`, of a JSON file whose earlier results have these keys."""
    check_result_file(path, lambda file: json_with(file, *keys), what)


def check_result_folder(path: str | Path) -> None:
    """Refuse, before any work, a folder for results whose name, or a part of it, something else has, or that can't be
    written to."""
    there = next(place for place in (Path(path), *Path(path).parents) if os.path.lexists(place))
    if not there.is_dir():
        raise UserError(f"results can't go into the folder {path}: {there} is no folder", ELSEWHERE)
    if fault := writing_fault(there):
        raise UserError(f"results can't go into {path}: {fault}", ELSEWHERE)


def writing_fault(folder: Path) -> str:
    """Why no file can be made in a folder that is there, in words; empty where one can.

    It is tried, with a file that has no name: what permissions say is wrong on network and pseudo file systems.
    """
    try:
        with tempfile.TemporaryFile(dir=folder):
            return ""
    except OSError as error:
        return f"nothing can be written into {folder} ({error.strerror})"


@contextmanager
def sole_writer(folder: str | Path, of: str | Path = "") -> Iterator[None]:
    """Make a folder, and be the only one on this machine who writes results into it until the block or process ends.

    A folder that is made here and stays empty is removed again. One that can't be written to is refused.

    Args:
        of: what is made there, where a person knows it by another name.

    Raises:
        UserError: another process is at work there: the results of both would be mixed.
        RunFailure: the folder was deleted or moved away before the block has ended.
    """
    with held_alone(Path(folder), of) as descriptor:
        yield
        if not _is_at(Path(folder), descriptor):
            message = f"the folder {folder} was deleted or moved away while results were written: some are lost"
            raise RunFailure(message, "do the same again")


@contextmanager
def held_alone(folder: Path, of: str | Path = "") -> Iterator[int]:
    """As `sole_writer`, of a folder that others may move meanwhile; gives its descriptor."""
    check_result_folder(folder)
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        descriptor = _held(folder)
    except BlockingIOError:
        message = f"another process is writing results into {of or folder}"
        raise UserError(message, "let it end, or give another name for the results") from None
    try:
        yield descriptor
    finally:
        for path in made:
            with suppress(OSError):  # it has something in it, or is gone
                path.rmdir()
        os.close(descriptor)


def _held(folder: Path) -> int:
    """A descriptor of the folder, made where it is not there, with the only lock on it.

    Raises:
        BlockingIOError: another process has that.
    """
    while True:
        os.makedirs(folder, exist_ok=True)
        try:
            descriptor = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:  # the one before has just removed it
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise
        except OSError:  # a file system without locks on folders
            return descriptor
        if _is_at(folder, descriptor):
            return descriptor
        os.close(descriptor)


def _is_at(folder: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), folder.stat())
    except OSError:
        return False


@contextmanager
def sole_maker(path: Path) -> Iterator[Path]:
    """A folder for what is to become `path`, which only one process on this machine has for it.

    It is gone after the block; what a killed process has left there is gone before. An earlier `path` that
    `replace_folder` had moved there, and for which no new one came, is back before and after the block.

    Raises:
        UserError: another process is making it, or it can't be made there.
    """
    if not path.name:
        raise UserError(f"{path} is no name for results", ELSEWHERE)
    check_result_folder(path.parent)
    folder = path.with_name(f".{path.name[:48]}.{zlib.crc32(os.fsencode(path.name)):08x}.unfinished")
    with held_alone(folder, of=path):
        _put_back(path, folder / EARLIER)
        for leftover in folder.iterdir():
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        try:
            yield folder
        finally:
            _put_back(path, folder / EARLIER)
            shutil.rmtree(folder, ignore_errors=True)


def _put_back(path: Path, earlier: Path) -> None:
    if os.path.lexists(earlier) and not os.path.lexists(path):
        earlier.rename(path)


def record_written(folder: Path, corrected: Iterable[str], others: Iterable[str] = ()) -> None:
    """Record which files of a folder are results, so that `check_unchanged` knows what a person did to them.

    What was recorded before of files that are still there stays.

    Args:
        corrected: those that people may change, by their path below the folder.
        others: links and copies of what lies elsewhere.
    """
    earlier = {name: known for name, known in _record(folder).items() if os.path.lexists(folder / name)}
    written = {name: _checksum(folder / name) for name in corrected}
    write_json(folder / RECORD, {**earlier, **dict.fromkeys(others), **written})


def recorded_files(folder: Path) -> list[str]:
    """The files of `record_written` that are still there, changed or not, by their path below the folder."""
    return [name for name in _record(folder) if (folder / name).is_file()]


def check_unchanged(folder: Path) -> None:
    """Refuse to replace results that were changed by hand since.

    Raises:
        UserError: a file is not as it was written.
    """
    for name, checksum in _record(folder).items():
        if checksum is not None and (folder / name).is_file() and _checksum(folder / name) != checksum:
            message = f"{folder / name} was changed since it was written here, and would be replaced"
            raise UserError(message, "move it away, or take another --output")


def check_as_written(files: Iterable[Path]) -> None:
    """Refuse to replace files of `record_written` that a person changed, and others of their names.

    Raises:
        UserError: a file is not as it was written, or was not written here.
    """
    for path in files:
        if path.exists() and _record(path.parent).get(path.name) != _checksum(path):
            message = f"{path} was changed since it was made here, or made by hand, and would be replaced"
            raise UserError(message, "move it away, or take another --output")


def check_nothing_else(folder: Path) -> None:
    """Refuse to replace a whole folder of results where a person changed one of them, or put something else there.

    Raises:
        UserError: a file is not as it was written, or not one of `record_written`.
    """
    check_unchanged(folder)
    known = {RECORD, *_record(folder)}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if name not in known and (path.is_symlink() or not path.is_dir()):
            message = f"{folder} has {name} in it, which is no part of the results that would be replaced"
            raise UserError(message, "move it away, or take another --output")


def replace_folder(folder: Path, made: Path) -> None:
    """Give what was made in the folder of `sole_maker` its place; an earlier one is deleted with what else is there.

    Where it can't have its place, or the process is ended before, `sole_maker` puts the earlier one back.
    """
    if folder.exists():
        folder.rename(made.with_name(EARLIER))
    made.rename(folder)


def move_all(places: Mapping[Path, Path]) -> None:
    """Rename files and folders, in their order: all of them, or none.

    Args:
        places: by the present path the new one, at which nothing is.

    Raises:
        OSError: one can't be moved, such as a folder that is mounted there; the others are where they were.
    """
    try:
        for path, place in places.items():
            path.rename(place)
    except BaseException as error:
        for path, place in reversed(list(places.items())):
            if os.path.lexists(place) and not os.path.lexists(path):
                place.rename(path)
        if isinstance(error, OSError):
            error.filename2 = None  # the place is nothing that a person knows
        raise


def check_replaceable(folder: Path, mark: str, refusal: str) -> None:
    """Refuse a folder that is neither empty nor all of it an earlier one of `replace_folder`, as it was written.

    Args:
        mark: a file that such folders have.
        refusal: what is said of any other folder.

    Raises:
        UserError: there is something else, or results were changed by hand.
    """
    check_result_folder(folder)
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if not ((folder / mark).is_file() and (folder / RECORD).is_file()):
        raise UserError(refusal, "take another --output")
    check_nothing_else(folder)


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


def _record(folder: Path) -> dict[str, int | None]:
    content = json.loads((folder / RECORD).read_bytes()) if json_with(folder / RECORD) else {}
    return content if isinstance(content, dict) else {}


def _checksum(path: Path) -> int:
    return zlib.crc32(path.read_bytes())


def _as_list(content: object) -> list:
    return content if isinstance(content, list) else [content]


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino
