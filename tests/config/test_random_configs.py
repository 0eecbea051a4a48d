"""Properties that hold for any config: saved ones load equal, overrides set what they name and nothing else."""

import os

from hydra.core.override_parser.types import Quote, QuotedString
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from xray_lazy.config import apply_overrides, diff_configs, flatten, load_config, save_config
from xray_lazy.config.keys import all_keys
from xray_lazy.config.yaml_format import escape_interpolations
from xray_lazy.errors import UserError

# What makes YAML, omegaconf or Hydra read text as something else, beside any other text.
ODD_TEXT = [
    "null",
    "on",
    "1e-3",
    "0o7",
    "2024-01-01",
    "12:30",
    "a~",
    "~+",
    "a: b",
    "- a",
    "#",
    "=",
    "<<",
    "${a}",
    "\\${a}",
]
ODD_TEXT += ["\\\\${a} \\", "'\"\\", "\ud800", "\x00\x1b", "\x85\u2028", "\ufeff", "🧳", " a ", "a\n\n b\n", "x" * 300]

ANY_TIME = settings(deadline=None, max_examples=60)

# "???" is a missing value, and what begins with the home folder's sign is written out when a config is loaded
texts = (st.text(max_size=20) | st.sampled_from(ODD_TEXT)).filter(
    lambda text: text != "???" and os.path.expanduser(text) == text
)
floats = st.floats(allow_nan=False)
values = st.none() | st.booleans() | st.integers() | floats | texts
names = st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_-]{0,6}", fullmatch=True)
trees = st.dictionaries(
    names,
    st.recursive(values, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3)),
    min_size=1,
    max_size=4,
)


def as_config(tree):
    """A config whose text stands for itself: `${` in it is no interpolation."""
    return OmegaConf.create(escaped(tree))


def escaped(tree):
    if isinstance(tree, dict):
        return {name: escaped(child) for name, child in tree.items()}
    if isinstance(tree, list):
        return [escaped(child) for child in tree]
    return escape_interpolations(tree) if isinstance(tree, str) else tree


def override_text(value) -> str:
    """A value as a person would have to write it on a command line."""
    if isinstance(value, str):
        return QuotedString(escape_interpolations(value), Quote.double).with_quotes()
    return str(value)


def same_type(value):
    return {bool: st.booleans(), int: st.integers(), float: floats, str: texts}[type(value)]


@ANY_TIME
@given(trees)
def test_a_saved_config_loads_equal(tmp_path_factory, tree):
    config = as_config(tree)
    path = tmp_path_factory.getbasetemp() / "config.yaml"
    save_config(config, path)
    loaded = load_config(path)
    assert OmegaConf.to_container(loaded, resolve=True) == tree
    assert diff_configs(config, loaded) == []


@ANY_TIME
@given(trees, st.data())
def test_an_override_sets_its_key_and_nothing_else(tree, data):
    config = as_config(tree)
    flat = flatten(config)
    scalars = [key for key, value in flat.items() if isinstance(value, (bool, int, float, str))]
    key = data.draw(st.sampled_from(scalars or ["none"]))
    if not scalars:
        return
    value = data.draw(same_type(flat[key]))
    changed = flatten(apply_overrides(config, [f"{key}={override_text(value)}"]))
    assert changed == {**flat, key: value}
    assert flatten(config) == flat


@ANY_TIME
@given(trees, names, values)
def test_an_added_key_can_be_removed_again(tree, name, value):
    config = as_config(tree)
    added = apply_overrides(config, [f"+{name}.{name}_new={override_text(value)}"]) if name not in tree else config
    assert name in added
    assert diff_configs(config, apply_overrides(added, [f"~{name}"] if name not in tree else [])) == []


@ANY_TIME
@given(trees, st.lists(names, min_size=1, max_size=3), st.sampled_from(["", "~"]))
def test_an_unknown_key_is_always_refused_and_changes_nothing(tree, parts, prefix):
    config, key = as_config(tree), ".".join(parts)
    if key in all_keys(config):
        return
    try:
        apply_overrides(config, [f"{prefix}{key}" + ("" if prefix else "=1")])
    except UserError as error:
        assert key in error.message
    else:
        raise AssertionError(f"{key} was accepted")
    assert OmegaConf.to_container(config, resolve=True) == tree
