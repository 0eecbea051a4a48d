"""Tools that are run in the test's own process."""

from tests.tool_in_process import run_tool_here

__all__ = ["run_tool_here"]
