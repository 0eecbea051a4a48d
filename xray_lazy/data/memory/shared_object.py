"""Objects that the processes of a machine share: the first that asks for one makes it, the others map its memory."""

import contextlib
import fcntl
import hashlib
import mmap
import os
import pickle
import stat
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


def shared_object(name: str, make: Callable[[], T]) -> T:
    """What `make()` gives, made by one process of this user and machine at a time and by the others taken over.

    The arrays in it are shared, and can't be written into; the rest each process unpickles for itself. The memory has
    no file (`memfd`), so that it goes with the last process that maps it, however that ends. Others find it by a link
    in the folder for temporary files to the descriptor of the process that made it; where that has ended, the next one
    that asks makes the object anew. Where nothing can be shared, `make()` is what each process gets.

    Args:
        name: equal for what is equal in content.
    """
    with contextlib.ExitStack() as stack:
        try:
            folder = _own_folder()
            # some network file systems know no locks
            fcntl.flock(stack.enter_context(open(folder / "lock", "w")), fcntl.LOCK_EX)
        except OSError:
            return make()
        link = folder / f"xray_lazy_{hashlib.sha256(name.encode()).hexdigest()[:32]}"
        memory = _found(link)
        if memory is None:
            made = make()
            try:
                memory = _written(made, link)
            except OSError:
                return made
    return _mapped(memory)


def _own_folder() -> Path:
    """Raises OSError where it is, or may be, another user's: what is shared is unpickled."""
    folder = Path(tempfile.gettempdir(), f"xray_lazy_{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise PermissionError(f"{folder} is open to others")
    return folder


def _found(link: Path) -> int | None:
    """A descriptor of the memory that the link leads to, or None where its process has ended."""
    try:
        return os.open(link, os.O_RDONLY) if _leads_to_memory(link) else None
    except OSError:
        return None


def _leads_to_memory(link: Path) -> bool:
    try:
        # the number of an ended process may be that of another now, and a closed descriptor's another file's
        return os.readlink(os.readlink(link)) == f"/memfd:{link.name} (deleted)"
    except OSError:
        return False


def _written(made: object, link: Path) -> int:
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(made, protocol=5, buffer_callback=buffers.append)
    index = pickle.dumps((head, [buffer.raw().nbytes for buffer in buffers]))
    memory = os.memfd_create(link.name)
    try:
        with open(memory, "wb", closefd=False) as stream:
            for part in (len(index).to_bytes(8, "little"), index, *buffers):
                stream.write(part)
        temporary = link.with_suffix(f".{os.getpid()}")
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(f"/proc/{os.getpid()}/fd/{memory}")
        temporary.replace(link)
    except OSError:
        os.close(memory)
        raise
    for other in link.parent.glob("xray_lazy_*"):
        if not _leads_to_memory(other):
            other.unlink(missing_ok=True)
    return memory


def _mapped(memory: int) -> Any:
    content = mmap.mmap(memory, 0, access=mmap.ACCESS_READ)
    weakref.finalize(content, os.close, memory)  # as long as it is open, others find it
    start = 8 + int.from_bytes(content[:8], "little")
    head, lengths = pickle.loads(content[8:start])
    view, buffers = memoryview(content), []
    for length in lengths:
        buffers.append(view[start : start + length])
        start += length
    return pickle.loads(head, buffers=buffers)
