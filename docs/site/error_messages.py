"""The messages that users may see, from the code: f-strings and strings with `...` in place of what is filled in."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]


def texts_in_code(folders: tuple[str, ...] = ("xray_lazy", "tools", "projects")) -> Iterator[str]:
    """Every string of the code that is no docstring; parts that stand beside each other are one."""
    for folder in folders:
        for file in sorted((ROOT / folder).rglob("*.py")):
            tree = ast.parse(file.read_text(encoding="utf-8"))
            inside = {part for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)}
            for node in ast.walk(tree):
                if isinstance(node, ast.JoinedStr):
                    yield _template(node)
                elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in inside:
                    yield node.value


def _template(node: ast.JoinedStr) -> str:
    text = "".join(part.value if isinstance(part, ast.Constant) else "..." for part in node.values)
    return re.sub(r"(\.\.\.){2,}", "...", text)
