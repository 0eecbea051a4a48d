"""A tiny set for all tests."""

import pytest


@pytest.fixture(scope="session", autouse=True)
def with_tiny_set(tiny_set):
    """Every test here may load `tests/engine/tiny.py`."""
