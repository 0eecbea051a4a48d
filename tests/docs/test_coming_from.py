"""What other frameworks' users are pointed to is there."""

import re
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from xray_lazy.config import get_config

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "coming_from.md").read_text(encoding="utf-8")
ROOTS = ("dataloader", "hooks", "lr_multiplier", "model", "optimizer", "test", "train", "writers")


def section(title: str) -> list[str]:
    """What stands in the last column of its table, which is the one of this project."""
    text = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)[1]
    return [line.strip("| \n").split("|")[-1] for line in text.splitlines() if line.startswith("|")]


KEYS = [
    key
    for cell in [*section("Configs: where a key has gone"), *section("Hooks")]
    for key in re.findall(r"`([a-z_]+(?:\.\w+)+)`", cell)
    if key.split(".")[0] in ROOTS
]


@pytest.fixture(scope="module")
def cfg():
    base = get_config("xray/mask_rcnn_r50.py")
    base.other_schedule = get_config("common/schedule.py").multi_step
    return base


@pytest.mark.parametrize("key", sorted(set(KEYS)))
def test_a_key_is_one_of_ours(key, cfg):
    keys = [key, key.replace("lr_multiplier", "other_schedule")]
    parents = [name.rpartition(".") for name in keys]
    assert any(last in (OmegaConf.select(cfg, parent) or ()) for parent, _, last in parents)


@pytest.mark.parametrize("tool", sorted(set(re.findall(r"`(tools/\w+\.py)", "\n".join(section("Commands"))))))
def test_a_command_is_one_of_ours(tool):
    assert (ROOT / tool).is_file()
