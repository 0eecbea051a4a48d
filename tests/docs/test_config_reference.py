"""The config reference has each key, with a meaning, and links that lead somewhere."""

import re

import pytest
from config_comments import comments_by_key
from config_page import render
from config_reference import CHAPTERS, nodes_of, written_meanings
from omegaconf import OmegaConf

from xray_lazy.config import get_config

SPARSE = ("xray/sparse_rcnn_r50.py", "xray/sparse_rcnn_box_transformer_r50.py")


@pytest.fixture(scope="module")
def nodes():
    return [node for chapter in CHAPTERS for node in nodes_of(chapter)]


@pytest.fixture(scope="module")
def keys(nodes):
    return {node.key for node in nodes} | {row.key for node in nodes for row in node.rows}


def leaves(tree, key=""):
    """Keys that hold values; a list counts as a value unless nodes are in it."""
    children = tree.items() if isinstance(tree, dict) else ((str(n), item) for n, item in enumerate(tree))
    for name, value in children:
        child = f"{key}.{name}" if key else str(name)
        holds_nodes = isinstance(value, list) and any(isinstance(item, dict) for item in value)
        # a dict whose names are not identifiers, such as patterns, is a value
        group = isinstance(value, dict) and value and all(str(part).isidentifier() for part in value)
        if group or holds_nodes:
            yield from leaves(value, child)
        elif name != "_target_":
            yield child


@pytest.mark.parametrize("config", ["xray/mask_rcnn_r50.py", *SPARSE])
def test_every_key_of_an_experiment_is_in_the_reference(config, keys):
    tree = OmegaConf.to_container(OmegaConf.create(get_config(config), flags={"allow_objects": True}))
    scheduled = {"lr_multiplier", "optimizer"}  # whichever is chosen has its chapter
    assert set(tree) >= scheduled
    assert [key for key in leaves(tree) if key not in keys] == []


def test_every_key_has_a_meaning(nodes):
    assert [row.key for node in nodes for row in node.rows if not row.meaning] == []


def test_a_meaning_that_was_written_by_hand_is_of_a_key_that_is_there(nodes):
    used = {row.key for node in nodes for row in node.rows}
    used |= {f"{row.target}.{row.key.rpartition('.')[2]}" for node in nodes for row in node.rows if row.target}
    assert sorted(set(written_meanings()) - used) == []


def test_defaults_types_and_meanings_are_those_of_the_code(nodes):
    rows = {row.key: row for node in nodes for row in node.rows}
    patience = rows["hooks.early_stopping.patience"]
    assert (patience.default, patience.type, patience.given) == ("None", "int | None", True)
    entity = rows["writers.wandb.entity"]  # the config leaves it at its default
    assert (entity.default, entity.given) == ("None", False)
    # from config_meanings.yaml, a comment, and a docstring
    assert rows["train.clip_gradients.max_norm"].meaning.startswith("the largest norm")
    assert rows["train.accumulate"].meaning.startswith("micro-batches per optimizer step")
    assert rows["hooks.early_stopping.min_delta"].meaning.startswith("a value is better")


def test_comments_beside_and_above_a_key_are_read(tmp_path):
    file = tmp_path / "config.py"
    file.write_text(
        "tree = dict(\n"
        "    first=1,  # beside it\n"
        "    # above it,\n"
        "    # in two lines\n"
        "    node=L(Thing)(a=1, b=2),  # of the node\n"
        "    deep=dict(\n"
        "        inner=[L(Thing)(c=3)],\n"
        "        last=4,  # inside\n"
        "    ),\n"
        ")\n"
    )
    assert comments_by_key(file, "tree") == {
        "first": "beside it",
        "node": "above it, in two lines; of the node",
        "deep.last": "inside",
    }


def test_tables_of_the_page_are_whole():
    page = render()
    for line in page.splitlines():
        if line.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", line)) == 5, line
