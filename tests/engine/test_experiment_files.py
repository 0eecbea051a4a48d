"""A misspelled key in a config file is told by every tool that trains with it."""

import argparse
import logging
import runpy
from pathlib import Path

import pytest

from xray_lazy.engine.run import RunOptions, run
from xray_lazy.engine.searches.search_set_up import load_for_search
from xray_lazy.errors import UserError
from xray_lazy.sweeps.run_sweep import SweepOptions, run_sweep

PLAIN_TRAIN = Path(__file__).parents[2] / "tools" / "plain_train.py"


def plain_train(config_file: str) -> None:
    runpy.run_path(str(PLAIN_TRAIN))["main"](argparse.Namespace(config_file=config_file, overwrite=False), [])


def search(config_file: str) -> None:
    load_for_search(config_file, [])


def sweep(config_file: str) -> None:
    sweep_file = Path(config_file).with_name("sweep.yaml")
    sweep_file.write_text("method: grid\nmetric: {name: total_loss}\nparameters: {optimizer.lr: {values: [1, 2]}}\n")
    run_sweep(SweepOptions(str(sweep_file), config_file))


@pytest.mark.parametrize(
    "start",
    [lambda config_file: run(RunOptions(config_file)), plain_train, search, sweep],
    ids=["lazy_train", "plain_train", "search", "sweep"],
)
def test_a_key_that_no_one_reads_is_told(tmp_path, caplog, start):
    config_file = tmp_path / "experiment.py"
    config_file.write_text("train = dict(device='cpu', max_itr=5)\n")
    with caplog.at_level(logging.WARNING), pytest.raises(UserError):
        start(str(config_file))
    assert [text for text in caplog.messages if "train.max_itr" in text and "train.max_iter" in text]
