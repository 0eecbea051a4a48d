"""Memory that ran out is one message with what takes less."""

import numpy as np
import pytest
import torch

from xray_lazy.errors import RunFailure
from xray_lazy.failure import Failure
from xray_lazy.utils.out_of_memory import explained_out_of_memory, memory_failure

OF_A_GPU = torch.OutOfMemoryError(
    "CUDA out of memory. Tried to allocate 4.00 GiB. GPU 0 has a total capacity of 79.11 GiB of which 1.20 GiB is "
    "free. Including non-PyTorch memory, this process has 77.90 GiB memory in use."
)


@pytest.mark.parametrize("ask", [lambda: torch.empty(2**55, dtype=torch.uint8), lambda: np.empty(2**55, np.uint8)])
def test_more_memory_than_there_is_becomes_the_message(ask):
    with pytest.raises(RunFailure, match="out of memory: ") as failure, explained_out_of_memory():
        ask()
    for name in ("tools/find_batch_size.py", "train.accumulate", "train.amp.enabled"):
        assert name in failure.value.fix


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            OF_A_GPU,
            "out of memory: Tried to allocate 4.00 GiB; GPU 0 has a total capacity of 79.11 GiB of which 1.20 GiB is "
            "free",
        ),
        (RuntimeError("CUDA error: out of memory\nCompile with"), "out of memory: CUDA error: out of memory"),
        (RuntimeError("CUDNN_STATUS_ALLOC_FAILED"), "out of memory: CUDNN_STATUS_ALLOC_FAILED"),
        (MemoryError(), "out of memory: MemoryError"),
    ],
)
def test_a_tool_tells_it_in_short(error, message):
    told = Failure.of(error)
    assert (told.message, told.exit_code) == (message, 1) and "find_batch_size" in told.fix


def test_other_errors_are_left_alone():
    assert memory_failure(RuntimeError("shapes differ")) is None
    assert memory_failure(ValueError("out of memory")) is None
    with pytest.raises(ZeroDivisionError), explained_out_of_memory():
        _ = 1 / 0
