"""The YAML of saved configs: plain data, plus classes and functions as `!!python/name:module.name`.

detectron2's own LazyConfig.load reads these too; `functools.partial` has a tag of ours, `!partial`. Loading imports
modules but calls nothing: other Python tags, which would, are refused.
"""

import functools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from xray_lazy.config.names import locate
from xray_lazy.errors import UserError

_NAME_TAG = "tag:yaml.org,2002:python/name:"
MOST_BY_ALIASES = 10_000  # values: aliases of lists of aliases would be billions in a few lines


@dataclass(frozen=True)
class NamedObject:
    """A class, function or enum member, by its dotted name."""

    name: str


@dataclass(frozen=True)
class PartialCall:
    """A `functools.partial`, which configs use for layers with settings: `partial(nn.LayerNorm, eps=1e-6)`."""

    function: NamedObject | str
    arguments: list
    keywords: dict


def dump_yaml(tree: Any) -> str:
    """`tree` (dicts, lists, plain values, `NamedObject`s) as YAML; keys keep their order."""
    return yaml.dump(tree, Dumper=_Dumper, allow_unicode=True, sort_keys=False, width=float("inf"))


def read_text(path: Path) -> str:
    """What a YAML file holds.

    Raises:
        UserError: it is in another encoding than UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text: {error}", "save it as UTF-8") from None


def parse_yaml(text: str, source: str) -> Any:
    """The inverse of `dump_yaml`, with the objects in the place of their names.

    Args:
        text: the YAML.
        source: where it is from, for messages.

    Raises:
        UserError: it is not YAML, a key occurs twice, it holds other Python objects, a name can't be imported, or
            its aliases stand for more than any config has.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{source}, line {mark.line + 1}" if mark else source
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise UserError(f"{where}: {problem}", "correct the file, or save it again from the config") from None


def escape_interpolations(text: str) -> str:
    r"""Make omegaconf read `text` literally: `${` becomes `\${`, and backslashes before it are doubled."""
    return re.sub(r"(\\*)\$\{", lambda match: match[1] * 2 + r"\${", text)


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_rows(self, data: list) -> yaml.Node:
        """Lists without groups on one line."""
        return self.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=not _holds_dict(data))

    def represent_group(self, data: dict) -> yaml.Node:
        return self.represent_mapping("tag:yaml.org,2002:map", data.items(), flow_style=not data)

    def represent_text(self, data: str) -> yaml.Node:
        """In double quotes, with escapes, where PyYAML's other styles would lose rare line breaks."""
        style = None if data.isprintable() else '"'
        return self.represent_scalar("tag:yaml.org,2002:str", data, style)

    def represent_named_object(self, data: NamedObject) -> yaml.Node:
        return self.represent_scalar(_NAME_TAG + data.name, "")

    def represent_partial(self, data: PartialCall) -> yaml.Node:
        return self.represent_mapping("!partial", vars(data), flow_style=True)


class _Loader(yaml.SafeLoader):
    def __init__(self, stream: str):
        super().__init__(stream)
        self._sizes: dict[yaml.Node, int] = {}  # values in each, aliases as what they stand for

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        node = super().compose_node(parent, index)
        if node is not None and node not in self._sizes:
            is_list, is_text = isinstance(node, yaml.SequenceNode), isinstance(node, yaml.ScalarNode)
            inner = [] if is_text else [node.value] if is_list else node.value
            self._sizes[node] = 1 + sum(self._sizes.get(part, 1) for parts in inner for part in parts)
            if self._sizes[node] > len(self._sizes) + MOST_BY_ALIASES:
                raise yaml.MarkedYAMLError(
                    None, None, f"its aliases stand for more than {MOST_BY_ALIASES:,} values", node.start_mark
                )
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key_node, _ in node.value:
            key = (key_node.tag, str(key_node.value))
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key_node.value!r} stands twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)

    def construct_named_object(self, name: str, node: yaml.Node) -> Any:
        try:
            return locate(name)
        except UserError as error:
            raise UserError(f"line {node.start_mark.line + 1}: {error.message}", error.fix) from None

    def construct_partial(self, node: yaml.MappingNode) -> functools.partial:
        content = self.construct_mapping(node, deep=True)
        return functools.partial(content["function"], *content["arguments"], **content["keywords"])

    def refuse_python(self, suffix: str, node: yaml.Node) -> Any:
        raise yaml.constructor.ConstructorError(
            None, None, f"!!python/{suffix} builds an object, which a config file may not", node.start_mark
        )


def _holds_dict(value: Any) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and any(map(_holds_dict, value)))


# YAML 1.1 reads 1e-3 as text and 2024-01-01 as a date. The dumper must know the same rules to quote such text.
_FLOAT = re.compile(
    r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+)$"
    r"|[-+]?\.(?:inf|Inf|INF)$|\.(?:nan|NaN|NAN)$"
)
for _class in (_Dumper, _Loader):
    _class.yaml_implicit_resolvers = {
        first: [
            (tag, pattern)
            for tag, pattern in resolvers
            if tag not in ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:float")
        ]
        for first, resolvers in _class.yaml_implicit_resolvers.items()
    }
    _class.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))
_Dumper.add_representer(str, _Dumper.represent_text)
_Dumper.add_representer(list, _Dumper.represent_rows)
_Dumper.add_representer(dict, _Dumper.represent_group)
_Dumper.add_representer(NamedObject, _Dumper.represent_named_object)
_Dumper.add_representer(PartialCall, _Dumper.represent_partial)
_Loader.add_constructor("!partial", _Loader.construct_partial)
_Loader.add_multi_constructor(_NAME_TAG, _Loader.construct_named_object)
_Loader.add_multi_constructor("tag:yaml.org,2002:python/", _Loader.refuse_python)
