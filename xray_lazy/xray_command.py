"""The command `xray-lazy`, which a wheel installs: the tools as its subcommands."""

import ast
import difflib
import runpy
import sys
from pathlib import Path

from xray_lazy.command_line import print_error
from xray_lazy.errors import UserError
from xray_lazy.tool_files import tools_folder
from xray_lazy.utils.interruption import end_on_signals

NAMES = {"lazy_train": "train"}  # all others are called as their files, with hyphens


def main() -> None:
    """Run the tool that the first word names, with the other words as its command line."""
    end_on_signals()
    tools = {NAMES.get(path.stem, path.stem.replace("_", "-")): path for path in sorted(tools_folder().glob("*.py"))}
    words = sys.argv[1:]
    if not words or words[0] in ("-h", "--help"):
        print(_help(tools))
    elif words[0] == "--version":
        from xray_lazy import __version__

        print(__version__)
    elif words[0] in tools:
        sys.argv = [f"xray-lazy {words[0]}", *words[1:]]
        runpy.run_path(str(tools[words[0]]), run_name="__main__")
    else:
        near = difflib.get_close_matches(words[0], tools) or list(tools)
        print_error(f"xray-lazy has no command {words[0]}", f"one of {', '.join(near)}")
        sys.exit(UserError.exit_code)


def _help(tools: dict[str, Path]) -> str:
    width = max(map(len, tools)) + 2
    lines = [f"  {name:{width}}{_first_line(path)}" for name, path in tools.items()]
    head = "usage: xray-lazy COMMAND ...\n\ncommands (each has its own --help):"
    return "\n".join([head, *lines, "", "as `python tools/<name>.py` in a checkout, where train is lazy_train.py"])


def _first_line(tool: Path) -> str:
    """What a tool's module says of itself, without importing it."""
    return (ast.get_docstring(ast.parse(tool.read_text(encoding="utf-8"))) or "").partition("\n")[0]


if __name__ == "__main__":
    main()
