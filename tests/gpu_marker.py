"""Tests marked `gpu` are skipped where there is none, but for those that a machine without one rehearses."""

import os

import pytest
import torch


def rehearsing() -> bool:
    """Whether `XRAY_GPU_TESTS_ON=cpu` asks for the part of `tests/gpu` that a CPU can show."""
    return os.environ.get("XRAY_GPU_TESTS_ON") == "cpu"


def pytest_runtest_setup(item):
    if not item.get_closest_marker("gpu") or torch.cuda.is_available():
        return
    if not rehearsing() or "gpu" not in item.path.parent.name or "needs_cuda" in item.fixturenames:
        pytest.skip("needs a GPU")
