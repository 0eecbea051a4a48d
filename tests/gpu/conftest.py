"""What only a GPU can show. `XRAY_GPU_TESTS_ON=cpu` rehearses the rest of these tests on a machine without one."""

import os
from pathlib import Path

import pytest
import torch

from tests.gpu.experiments import EXPERIMENTS
from tests.gpu_marker import rehearsing

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items):
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.gpu)


@pytest.fixture(scope="session", autouse=True)
def with_tiny_set(tiny_set):
    """Every test here may load the configs of `EXPERIMENTS`."""


@pytest.fixture
def device() -> str:
    return "cpu" if rehearsing() else "cuda"


@pytest.fixture
def needs_cuda():
    """For what has no counterpart on the CPU."""


@pytest.fixture(params=EXPERIMENTS)
def config(request) -> str:
    """The file of a tiny Mask R-CNN, then of a tiny Sparse R-CNN."""
    return EXPERIMENTS[request.param]


@pytest.fixture(autouse=True)
def exact_float32(monkeypatch):
    """Numbers are compared to float32's rounding, which TF32 has not."""
    if torch.cuda.is_available():
        monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)
        monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
        monkeypatch.setitem(os.environ, "NVIDIA_TF32_OVERRIDE", "0")  # for processes that a test starts
