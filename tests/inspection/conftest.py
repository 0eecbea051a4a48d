"""Tools that are run in the test's own process, and a tiny set."""

import pytest

from tests.data.coco_sets import write_set
from tests.tool_in_process import run_tool_here

__all__ = ["run_tool_here"]


@pytest.fixture(scope="session", autouse=True)
def tiny_set(tmp_path_factory):
    """What `tests/engine/tiny.py` reads."""
    folder = tmp_path_factory.mktemp("tiny_set")
    write_set(folder, pictures=8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TINY_SET", str(folder))
        yield folder
