"""Tools that are run in the test's own process, and a tiny set."""

import pytest

from tests.tool_in_process import run_tool_here

__all__ = ["run_tool_here"]


@pytest.fixture(scope="session", autouse=True)
def with_tiny_set(tiny_set):
    """Every test here may load `tests/engine/tiny.py`."""
