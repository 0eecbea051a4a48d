"""An evaluation that fails takes no weights with it."""

import pytest
import torch

from tests.engine.conftest import CONFIG
from xray_lazy.engine.evaluation_run import EvaluationRun
from xray_lazy.engine.run import RunOptions, run


@pytest.mark.parametrize(("failing", "saved"), [(1, "model_0000001"), (3, "model_final")])
def test_weights_are_on_disk_when_their_evaluation_fails_and_it_is_made_up_for(output, monkeypatch, failing, saved):
    folder, overrides = output
    settings = [*overrides, "train.max_iter=4", "train.eval_period=2", "train.checkpointer.period=2", "~hooks.report"]
    evaluate = EvaluationRun.__call__

    def fail_once(self, model, iteration, suffix=""):
        if iteration == failing:
            raise OSError("no space left for results")
        return evaluate(self, model, iteration, suffix)

    with monkeypatch.context() as broken, pytest.raises(OSError, match="no space left for results"):
        broken.setattr(EvaluationRun, "__call__", fail_once)
        run(RunOptions(CONFIG, settings))
    assert torch.load(folder / f"{saved}.pth", weights_only=True)["iteration"] == failing
    run(RunOptions(CONFIG, settings, resume=True))
    assert (folder / "last_checkpoint").read_text() == "model_final.pth"
    assert {path.name for path in (folder / "evaluation" / "tiny").iterdir()} == {"iter_1", "iter_3"}
