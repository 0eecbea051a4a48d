"""The seed fixes everything."""

import os

import pytest
import torch

from tests.engine.conftest import CONFIG
from xray_lazy.engine.determinism import set_determinism
from xray_lazy.engine.run import RunOptions, run


@pytest.fixture(autouse=True)
def usual_kernels():
    yield
    set_determinism(False)


def weights_after(folder, seed):
    settings = ["train.device=cpu", "train.deterministic=True", f"train.seed={seed}", f"train.output_dir={folder}"]
    short = ["train.max_iter=2", "train.eval_period=0", "~hooks.prediction_pictures", "~hooks.evaluation"]
    run(RunOptions(CONFIG, [*settings, *short]))
    return torch.load(folder / "model_final.pth", weights_only=True)["model"]


def test_runs_with_one_seed_are_equal_to_the_last_bit_and_with_another_they_differ(tmp_path):
    first, second, other = (weights_after(tmp_path / str(n), seed) for n, seed in enumerate([7, 7, 8]))
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert not torch.equal(first["backbone.fpn_lateral2.weight"], other["backbone.fpn_lateral2.weight"])


def test_deterministic_kernels_are_asked_for(monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    set_determinism(True)
    assert torch.are_deterministic_algorithms_enabled() and torch.is_deterministic_algorithms_warn_only_enabled()
    assert torch.backends.cudnn.deterministic and not torch.backends.cudnn.benchmark
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    set_determinism(False)
    assert not torch.are_deterministic_algorithms_enabled() and not torch.backends.cudnn.deterministic
