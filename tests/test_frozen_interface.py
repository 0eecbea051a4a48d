"""Configs and scripts of others go on working, or the change is on purpose."""

import difflib

from tests.frozen_interface import FROZEN, frozen_interface


def test_keys_and_classes_of_configs_and_options_of_tools_change_only_on_purpose():
    before, now = FROZEN.read_text(encoding="utf-8").splitlines(), frozen_interface().splitlines()
    changes = "\n".join(difflib.unified_diff(before, now, "frozen", "now", n=0, lineterm=""))
    accept = "on purpose? `python -m tests.frozen_interface`, and name old keys that config.yaml files still have"
    assert not changes, f"{changes}\n{accept}"
