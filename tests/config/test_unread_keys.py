"""Keys of a config file that no one reads are told, with near names; those that are meant are not."""

import logging

import pytest

from xray_lazy.config import apply_overrides, config_names, get_config
from xray_lazy.config.unread import unread_keys, warn_of_unread_keys


@pytest.fixture(scope="module")
def config():
    return get_config("xray/mask_rcnn_r50.py")


@pytest.mark.parametrize("name", [name for name in config_names() if "tiny" in name or name.startswith("xray/")])
def test_the_configs_that_come_along_have_no_key_that_is_not_read(name):
    assert unread_keys(get_config(name)) == {}


@pytest.mark.parametrize(
    ("added", "key", "near"),
    [
        ("+train.max_itr=5", "train.max_itr", "train.max_iter"),
        ("+train.checkpointer.max_to_kep=1", "train.checkpointer.max_to_kep", "train.checkpointer.max_to_keep"),
        ("+test.tta.enable=True", "test.tta.enable", "test.tta.enabled"),
        ("+dataloader.vaildation.total_batch_size=2", "dataloader.vaildation", "dataloader.validation"),
    ],
)
def test_a_key_that_no_one_reads_is_told_once_with_the_near_one(config, caplog, added, key, near):
    changed = apply_overrides(config, [added])
    assert unread_keys(changed)[key][0] == near
    with caplog.at_level(logging.WARNING):
        warn_of_unread_keys(changed)
    (message,) = caplog.messages
    assert f"nothing reads the key {key}" in message and near in message


def test_a_node_that_is_misspelled_is_told(config):
    assert unread_keys(apply_overrides(config, ["~optimizer", "+optimiser={lr: 1}"])) == {"optimiser": ["optimizer"]}


@pytest.mark.parametrize(
    "added",
    [
        ["+train.mine=0.1", "optimizer.lr=${train.mine}"],
        ["+train.mine=3", "+own_keys={train: [mi*]}"],
        ["+train.ddp.static_graph=True"],
        ["+train.tracking.tables.mine=[]"],
        ["+helper={a: 1}"],
    ],
)
def test_a_key_that_is_referred_to_or_meant_is_not_told(config, added):
    assert unread_keys(apply_overrides(config, added)) == {}
