"""A run as the engine would describe it, and an environment without anybody's W&B log-in."""

import os

import pytest
from omegaconf import OmegaConf

from xray_lazy.tracking.run_record import RunRecord


@pytest.fixture
def run(tmp_path) -> RunRecord:
    cfg = OmegaConf.create({"train": {"output_dir": str(tmp_path / "gun_run"), "seed": 7}, "optimizer": {"lr": 0.01}})
    return RunRecord.collect(cfg, overrides=["optimizer.lr=0.01"], world_size=2)


@pytest.fixture
def logged_out(monkeypatch, tmp_path):
    os.environ.pop("WANDB_SERVICE", None)  # for good: that of an earlier test may have ended
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    return monkeypatch
