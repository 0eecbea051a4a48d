"""Periods in iterations or epochs, as overrides."""

import pytest
from omegaconf import OmegaConf

from xray_lazy.config import apply_overrides
from xray_lazy.config.period import is_period_key, parse_epochs
from xray_lazy.errors import UserError

CONFIG = {
    "train": {"eval_period": 500, "log_period": "1 epoch", "max_iter": 5000},
    "hooks": {"profile": {"period": "${train.eval_period}"}},
    "lr_multiplier": {"warmup_iters": 30},
}


def changed(*overrides):
    return apply_overrides(OmegaConf.create(CONFIG), overrides)


@pytest.mark.parametrize(
    ("text", "epochs"),
    [("1 epoch", 1), ("0.5 epochs", 0.5), (".25epochs", 0.25), (" 12  epochs ", 12)]
    + [(other, None) for other in ("1 week", "epoch", "0 epochs", "-1 epochs", "1e3 epochs", "5", "", 5, None)],
)
def test_epochs_are_read_from_text(text, epochs):
    assert parse_epochs(text) == epochs


def test_a_period_takes_iterations_and_epochs_in_place_of_either():
    cfg = changed("train.eval_period=0.5 epochs", "train.log_period=20", "lr_multiplier.warmup_iters='1 epoch'")
    assert (cfg.train.eval_period, cfg.train.log_period) == ("0.5 epochs", 20)
    assert cfg.lr_multiplier.warmup_iters == "1 epoch" and cfg.hooks.profile.period == "0.5 epochs"
    assert changed("hooks.profile.period=2 epochs").hooks.profile.period == "2 epochs"
    assert changed("train.eval_period=${train.log_period}").train.eval_period == "1 epoch"


@pytest.mark.parametrize("override", ["train.eval_period=1 week", "train.log_period=often", "hooks.profile.period=1e"])
def test_other_text_is_refused_with_an_example(override):
    with pytest.raises(UserError, match="is not a period") as error:
        changed(override)
    assert "'1 epoch'" in error.value.fix


@pytest.mark.parametrize("override", ["train.eval_period=0.5", "train.log_period=true", "train.max_iter=1 epoch"])
def test_other_types_and_keys_are_refused_as_ever(override):
    with pytest.raises(UserError, match="doesn't fit"):
        changed(override)


def test_keys_of_periods_are_known_by_their_names():
    assert is_period_key("period") and is_period_key("eval_period") and is_period_key("warmup_iters")
    assert not is_period_key("max_iter") and not is_period_key("num_classes") and not is_period_key(0)
