"""What configs and scripts of others rely on: keys of configs, the paths of classes in them, and options of tools.

`python -m tests.frozen_interface` accepts a change: it writes `tests/frozen_interface.txt` anew.
"""

import argparse
import re
import runpy
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from omegaconf import DictConfig, ListConfig

from xray_lazy.config import config_names, get_config, to_yaml

ROOT = Path(__file__).parents[1]
FROZEN = Path(__file__).with_suffix(".txt")
OF_OURS = re.compile(r"_target_: ((?:xray_lazy|sparse_rcnn)\.[\w.]+)")
HEADLINE = "# Changed on purpose only: python -m tests.frozen_interface. [] is any element of a list."


def frozen_interface() -> str:
    return "\n".join([HEADLINE, *config_lines(), "", *target_lines(), "", *tool_lines(), ""])


def config_lines() -> Iterator[str]:
    """Each key once, under the configs that have it."""
    names = sorted(config_names())
    owners = defaultdict(list)
    for name in names:
        for key in sorted(set(keys_of(get_config(name)))):
            owners[key].append(name)
    groups = defaultdict(list)
    for key, having in sorted(owners.items()):
        groups[tuple(having)].append(key)
    for having, keys in sorted(groups.items(), key=lambda group: (-len(group[0]), group[0])):
        yield from ["", "## keys of all configs" if len(having) == len(names) else "## keys of " + ", ".join(having)]
        yield from keys


def target_lines() -> Iterator[str]:
    """The classes and functions that `config.yaml` files of earlier runs name, too: they are found where they were."""
    yield "## named by configs"
    texts = [to_yaml(get_config(name)) for name in config_names()]
    yield from sorted({target for text in texts for target in OF_OURS.findall(text)})


def keys_of(node: DictConfig | ListConfig, prefix: str = "") -> Iterator[str]:
    if isinstance(node, ListConfig):
        children = [(f"{prefix}[]", child) for child in node._content or ()]
    else:
        children = [(f"{prefix}.{key}" if prefix else str(key), child) for key, child in node._content.items()]
    for key, child in children:
        if isinstance(child, (DictConfig, ListConfig)) and isinstance(child._content, (dict, list)):
            yield from keys_of(child, key)
        if not isinstance(node, ListConfig):
            yield key


def tool_lines() -> Iterator[str]:
    for tool in sorted((ROOT / "tools").glob("*.py")):
        yield f"## options of tools/{tool.name}"
        names = runpy.run_path(str(tool))
        for name, build in names.items():
            if name.endswith("_parser") and build.__module__ == "<run_path>":
                takes_a_command = build.__code__.co_argcount
                for command in names["COMMANDS"] if takes_a_command else [""]:
                    yield from option_lines(*([build(command), f"{command} "] if command else [build()]))
        yield ""


def option_lines(parser: argparse.ArgumentParser, command: str = "") -> Iterator[str]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, sub_parser in action.choices.items():
                yield from option_lines(sub_parser, f"{command}{name} ")
        elif not isinstance(action, argparse._HelpAction):
            name = ", ".join(action.option_strings) or action.metavar or action.dest
            yield f"{command}{name}" + ("" if action.nargs is None else f" nargs={action.nargs}")


if __name__ == "__main__":
    FROZEN.write_text(frozen_interface(), encoding="utf-8")
