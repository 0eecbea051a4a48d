"""What the comments in a config file say of its keys."""

import ast
import io
import tokenize
from pathlib import Path


def comments_by_key(file: Path, variable: str) -> dict[str, str]:
    """The comment beside or above each key of the tree that `variable` is assigned, such as `train` in train.py.

    A tree is nested calls: `dict(...)` and `L(target)(...)`. Keys are relative to it, joined by dots, with the numbers
    of list items; the comment above the assignment has the key "".
    """
    text = file.read_text(encoding="utf-8")
    comments = {
        token.start[0]: (token.string.lstrip("# "), not token.line[: token.start[1]].strip())
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type == tokenize.COMMENT
    }
    trees = {
        target.id: node
        for node in ast.parse(text).body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    found: dict[str, str] = {}
    if variable in trees:
        _add(found, comments, "", trees[variable])
        _walk(found, comments, "", trees[variable].value)
    return found


def _walk(found: dict[str, str], comments: dict, key: str, node: ast.expr) -> None:
    """The outermost key that starts in a line takes the line's comment; of several beside each other the last one."""
    if isinstance(node, ast.Call):
        children = {keyword.arg: keyword for keyword in node.keywords if keyword.arg}
    elif isinstance(node, ast.List | ast.Tuple):
        children = {str(number): element for number, element in enumerate(node.elts)}
    else:
        return
    last_in_line = {child.lineno: name for name, child in children.items()}
    for name, child in children.items():
        child_key = f"{key}.{name}" if key else name
        if last_in_line[child.lineno] == name:
            _add(found, comments, child_key, child)
        _walk(found, comments, child_key, child.value if isinstance(child, ast.keyword) else child)


def _add(found: dict[str, str], comments: dict, key: str, node: ast.AST) -> None:
    lines = []  # each is taken once: the keys inside of this one are not meant
    above = node.lineno - 1
    while above in comments and comments[above][1]:
        lines.insert(0, comments.pop(above)[0])
        above -= 1
    texts = [" ".join(lines)]
    beside = comments.get(node.end_lineno)
    if beside and not beside[1] and node.lineno == node.end_lineno:
        texts.append(comments.pop(node.end_lineno)[0])
    if any(texts):
        found[key] = "; ".join(filter(None, texts))
