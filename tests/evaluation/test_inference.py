"""The loop that runs a model over a loader."""

import logging

import pytest
import torch
from detectron2.evaluation import DatasetEvaluator
from torch import nn

from xray_lazy.evaluation.inference import run_inference


class Counter(DatasetEvaluator):
    """Collects which images came through and what the model gave for them."""

    def __init__(self, name="count"):
        self.name = name

    def reset(self):
        self.seen = []

    def process(self, inputs, outputs):
        self.seen += [(record["image_id"], output) for record, output in zip(inputs, outputs, strict=True)]

    def evaluate(self):
        return {self.name: {"pictures": len(self.seen)}}


class Doubler(nn.Module):
    """Gives twice the input; `fail_at` is the image on which it breaks down."""

    def __init__(self, fail_at=None):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0))
        self.frozen = nn.BatchNorm2d(3).eval()
        self.fail_at = fail_at
        self.modes = set()

    def forward(self, batch):
        self.modes.add((self.training, self.frozen.training))
        if any(record["image_id"] == self.fail_at for record in batch):
            raise RuntimeError("the model fell over")
        return [record["value"] * self.scale for record in batch]


def batches(count, size=2):
    return [[{"image_id": size * b + i, "value": float(b)} for i in range(size)] for b in range(count)]


def test_every_image_is_evaluated_in_eval_mode_without_gradients():
    model, evaluator = Doubler().train(), Counter()
    model.frozen.eval()
    assert run_inference(model, batches(4), evaluator) == {"count": {"pictures": 8}}
    assert [image_id for image_id, _ in evaluator.seen] == list(range(8))
    assert float(evaluator.seen[-1][1]) == 6
    assert not any(output.requires_grad for _, output in evaluator.seen)
    assert model.modes == {(False, False)}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("fail_at", [None, 3])
def test_each_part_of_the_model_gets_its_mode_back(training, fail_at):
    model = Doubler(fail_at).train(training)
    model.frozen.eval()
    if fail_at is None:
        run_inference(model, batches(3), Counter())
    else:
        with pytest.raises(RuntimeError, match="fell over"):
            run_inference(model, batches(3), Counter())
    assert model.training is training
    assert model.frozen.training is False


def test_several_evaluators_see_the_same_outputs():
    results = run_inference(Doubler(), batches(2), [Counter("a"), Counter("b")])
    assert results == {"a": {"pictures": 4}, "b": {"pictures": 4}}


def test_an_empty_loader_gives_the_evaluators_say():
    assert run_inference(Doubler(), [], Counter()) == {"count": {"pictures": 0}}


def test_an_evaluator_that_returns_nothing_gives_an_empty_dict():
    assert run_inference(Doubler(), batches(1), DatasetEvaluator()) == {}


def test_progress_is_told_after_each_batch():
    told = []
    run_inference(Doubler(), batches(3), Counter(), progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_speed_and_remaining_time_are_logged(caplog):
    with caplog.at_level(logging.INFO, logger="xray_lazy"):
        run_inference(Doubler(), batches(6), Counter(), log_every=0.0)
    lines = [record.getMessage() for record in caplog.records]
    assert any(
        line.startswith("Evaluated 5/6 batches") and "images/s" in line and "remaining" in line for line in lines
    )
    assert lines[-1].startswith("Evaluated 12 images in ")
