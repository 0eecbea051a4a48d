"""The example experiment that these tests read."""

from pathlib import Path

import pytest

from xray_lazy.config import load_config


@pytest.fixture(scope="session")
def tiny():
    """One load serves all tests: nothing may change it."""
    return load_config(Path(__file__).parent / "experiments" / "tiny.py")
