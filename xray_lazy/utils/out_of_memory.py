"""Errors of memory that ran out, on a GPU or not, as one message with what takes less."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from xray_lazy.errors import RunFailure

# in errors of torch's allocators, and of the libraries that it calls
SIGNS = ("out of memory", "can't allocate memory", "not enough memory", "STATUS_ALLOC_FAILED")
FIX = (
    "take a smaller batch, the largest that fits is found by tools/find_batch_size.py; or compute it in parts "
    "(train.accumulate=2), in half precision (train.amp.enabled=True), or on smaller images. In evaluation, "
    "dataloader.test.batch_size counts. A training that had begun goes on with --resume"
)


def memory_failure(error: BaseException) -> RunFailure | None:
    """The failure that says of an error of torch or Python that memory ran out; None for other errors."""
    text = str(error)
    is_torchs = isinstance(error, RuntimeError) and any(sign in text for sign in SIGNS)
    if not (is_torchs or isinstance(error, MemoryError)):
        return None
    wanted = re.search(r"[Tt]ried to allocate [\d.]+ \w+", text)
    there = re.search(r"GPU \d+ has a total capacity of [\d.]+ \w+ of which [\d.]+ \w+ is free", text)
    facts = [found[0] for found in (wanted, there) if found]
    reason = "; ".join(facts) if facts else (text.splitlines() or [type(error).__name__])[0]
    return RunFailure(f"out of memory: {reason}", FIX)


@contextmanager
def explained_out_of_memory() -> Iterator[None]:
    """Raises: RunFailure: memory ran out meanwhile."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if failure := memory_failure(error):
            raise failure from error
        raise
