"""What the docstring of a class or function says of its arguments."""

import inspect
import re
from collections.abc import Callable

_OUR_PACKAGES = ("xray_lazy", "sparse_rcnn")
# "name:", "name, other:", "name (type, optional):", also with a star or in backquotes
_ARGUMENT = re.compile(r"(?P<names>[*`\w]+(?:, ?[*`\w]+)*)\s*(?:\([^:]*\))?\s*: ?(?P<text>.*)")
_SECTION = re.compile(r"(Args|Arguments|Attributes|Parameters):$")
_ROLE = re.compile(r":\w+:`~?([^`]*)`")  # of reStructuredText, as detectron2 and torch write them


def argument_docs(target: Callable) -> dict[str, str]:
    """The text of each argument in Google's style, from the docstrings of the class, its `__init__` and its bases.

    Of others' packages the first sentence alone: the rest is in their own documentation.
    """
    documented: dict[str, str] = {}
    for owner in inspect.getmro(target) if inspect.isclass(target) else (target,):
        sources = [owner, vars(owner).get("__init__")] if inspect.isclass(target) else [owner]
        for source in sources:
            for name, text in arguments_in(getattr(source, "__doc__", None) or "").items():
                documented.setdefault(name, _tidy(text, is_ours(owner)))
    return documented


def is_ours(target: Callable) -> bool:
    return (getattr(target, "__module__", "") or "").split(".")[0] in _OUR_PACKAGES


def arguments_in(docstring: str) -> dict[str, str]:
    """The text by argument in the sections of a docstring that list them; griffe's parser reads only tidy ones."""
    lines = iter(inspect.cleandoc(docstring).splitlines())
    texts: dict[str, list[str]] = {}
    for line in lines:
        if not _SECTION.match(line):
            continue
        indent, current = None, []
        for inner in lines:
            depth = len(inner) - len(inner.lstrip())
            if inner.strip() and not depth:
                break
            indent = depth if indent is None and inner.strip() else indent
            match = _ARGUMENT.match(inner.strip()) if depth == indent else None
            if match:
                current = [match["text"]]
                texts |= {name.strip("*` "): current for name in match["names"].split(",")}
            else:
                current.append(inner.strip())
    return {name: " ".join(filter(None, text)) for name, text in texts.items()}


def _tidy(text: str, ours: bool) -> str:
    text = _ROLE.sub(r"`\1`", " ".join(text.split())).replace("``", "`")
    return text if ours else re.split(r"(?<=[a-z`)])\. ", text)[0].rstrip(".")
