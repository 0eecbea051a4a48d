"""The page of the config reference in Markdown: a chapter per node, a table per class or function."""

from argument_docs import is_ours
from config_reference import CHAPTERS, Node, Row, nodes_of
from detectron2.utils.registry import locate

INTRODUCTION = """\
# Config reference

Every key of the configs, from the config files and the docstrings of what they name, so it is what this version does.
Set one on the command line, `optimizer.lr=1e-3`, or in an experiment file, `optimizer.lr = 1e-3`. A key with a **+**
is an argument that the configs leave at its default: `+writers.wandb.entity=our_team` adds it. A default `${a.b}` is
the value of that other key. `python tools/lazy_train.py --config-file FILE --dry-run` prints all keys of one
experiment with their values.
"""


def render() -> str:
    lines = [INTRODUCTION]
    for chapter in CHAPTERS:
        lines += [f"## {chapter.title}", "", chapter.text, ""]
        for node in nodes_of(chapter):
            lines += [line for line in _node(node, chapter.key) if line is not None]
    return "\n".join(lines)


def _node(node: Node, chapter_key: str) -> list[str | None]:
    heading = [f"### `{node.key}`", ""] if node.key != chapter_key else []
    made_from = [_made_from(node.target), ""] if node.target else []
    meaning = [_sentence(node.meaning), ""] if node.meaning and heading else []
    if not node.rows and not node.target:
        return []
    return [*heading, *meaning, *made_from, *_table(node.key, node.rows)]


def _made_from(target: str) -> str:
    """What the node is, with a link to the API where it is ours."""
    if not is_ours(locate(target)):
        return f"`{target}`"
    return f"[`{target}`][{target}]: {_first_sentence(locate(target))}"


def _first_sentence(target) -> str:
    text = " ".join((target.__doc__ or "").strip().split("\n\n")[0].split())
    return text.replace("|", r"\|")


def _table(node_key: str, rows: list[Row]) -> list[str]:
    if not rows:
        return []
    lines = ["| key | default | type | meaning |", "|---|---|---|---|"]
    for row in rows:
        key = row.key.removeprefix(node_key + ".")
        name = f"`{key}`" if row.given else f"**+** `{key}`"
        lines.append(f"| {name} | {_code(row.default)} | {_code(row.type)} | {_cell(row.meaning)} |")
    return [*lines, ""]


def _code(text: str) -> str:
    return f"`{_cell(text)}`" if text else ""


def _cell(text: str) -> str:
    return text.replace("|", r"\|").replace("\n", " ")


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + ("" if text.endswith(".") else ".")
