"""Run a tool in the test's own process, which has imported all that the tool would wait for."""

import importlib.util
import subprocess
import sys

import pytest

from xray_lazy.command_line import run_tool


@pytest.fixture
def run_tool_here(monkeypatch, capsys):
    """Call a tool as a command line would: path and arguments; gives its exit code, stdout and stderr."""

    def call(path, *arguments) -> subprocess.CompletedProcess:
        command = [str(path), *map(str, arguments)]
        monkeypatch.setattr(sys, "argv", command)
        specification = importlib.util.spec_from_file_location(f"tool_{path.stem}", path)
        tool = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(tool)
        capsys.readouterr()
        before = list(sys.path)
        with pytest.raises(SystemExit) as end:
            options = tool.parse()
            run_tool(lambda: options.run(options), options.debug)
        sys.path[:] = before
        printed = capsys.readouterr()
        return subprocess.CompletedProcess(command, end.value.code, printed.out, printed.err)

    return call
