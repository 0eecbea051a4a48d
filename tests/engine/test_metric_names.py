"""Names of metrics, before training and while averaged weights are evaluated."""

import types

import pytest

from tests.engine.hooks_for_tests import CrashAt
from xray_lazy.engine.hooks.ema import ExponentialMovingAverage
from xray_lazy.engine.hooks.evaluation import Evaluation
from xray_lazy.engine.hooks.validation_loss import ValidationLoss
from xray_lazy.engine.metric_names import better, check_name, possible_names
from xray_lazy.errors import UserError

NAMES = [
    f"{of}{name}"
    for of in ("", "smith_heimann/")
    for name in ("bbox/AP", "bbox/AP-gun", "segm/AP", "segm/AP50", "screening/P_D@5")
]


def training(names=NAMES, hook=None, missing=()):
    evaluate = types.SimpleNamespace(metric_names=lambda: names, missing_metrics=lambda: dict(missing))
    return types.SimpleNamespace(evaluate=evaluate, named_hooks={"one": hook or Evaluation(1)})


@pytest.mark.parametrize(
    "name",
    [
        "bbox/AP",
        "bbox_EMA/AP",
        "smith_heimann/segm/AP50",
        "smith_heimann/segm_EMA/AP50",
        "screening_EMA/P_D@5",
        # not of an evaluation
        "total_loss",
        "loss_mask",
        "val_loss/total_loss",
        "val_loss_EMA/loss_cls",
        "fast_rcnn/cls_accuracy",
        "detections/per_picture",
    ],
)
def test_what_is_logged_is_let_pass(name):
    check_name(name, "key", training())


@pytest.mark.parametrize(
    ("name", "fix"),
    [
        ("bbx/AP", "bbox/AP"),
        ("segm_AP", "segm/AP"),
        ("segm/mAP", "segm/AP"),
        ("bbox/AP-gnu", "bbox/AP-gun"),
        ("smith_hiemann/bbox/AP", "smith_heimann/bbox/AP"),
        ("smith_heimann/bbox_EMA/PA", "smith_heimann/bbox/AP"),
        ("bbox/precision", "there are bbox/AP, bbox/AP-gun"),
        ("screening/P_D@7", "screening/P_D@5"),
        ("screening/PFA", "screening says which rates there are"),
    ],
)
def test_what_no_evaluation_gives_is_refused_with_what_there_is(name, fix):
    with pytest.raises(UserError, match="key: no evaluation gives") as error:
        check_name(name, "key", training())
    assert fix in error.value.fix


@pytest.mark.parametrize(
    ("name", "fix"),
    [
        ("smith_heimann/bbox_EMA/AP", "such as bbox/AP,"),
        ("bbox/AP-gun", "such as smith_heimann/bbox/AP-gun, or leave the hook out: ~hooks.one"),
    ],
)
def test_what_no_evaluation_gives_a_number_is_refused_with_the_reason(name, fix):
    lacking = dict.fromkeys(("smith_heimann/bbox/AP", "bbox/AP-gun"), "the set has no gun")
    with pytest.raises(UserError, match="in any evaluation: the set has no gun") as error:
        check_name(name, "hooks.one.metric", training(missing=lacking))
    assert fix in error.value.fix
    with pytest.raises(UserError) as error:
        check_name(name, "hooks.one.metric", training(missing=dict.fromkeys(NAMES, "the set has no gun")))
    assert "evaluate a set that has" in error.value.fix


@pytest.mark.parametrize(
    ("hook", "metric", "fix"),
    [
        (ExponentialMovingAverage(0), "bbox_EMA/AP", "hooks.ema.decay"),
        (ValidationLoss(0, {}), "val_loss/total_loss", "hooks.validation_loss.period"),
    ],
)
def test_what_a_hook_that_is_off_would_give_is_refused(hook, metric, fix):
    with pytest.raises(UserError, match="would never be measured") as caught:
        check_name(metric, "hooks.best_checkpoint.metric", training(hook=hook))
    assert fix in caught.value.fix
    check_name("bbox/AP", "hooks.best_checkpoint.metric", training(hook=hook))


def test_hooks_and_evaluators_of_the_users_own_may_give_any_metric():
    check_name("bbox/F1", "key", training(hook=CrashAt(1)))
    check_name("bbox/F1", "key", training(names=None))


def test_a_suffix_is_at_the_task_or_before_it():
    assert "smith/bbox_EMA/AP" in possible_names("smith/bbox/AP", ["_EMA"])
    assert possible_names("loss", ["_EMA"]) == ["loss"]


def test_which_direction_is_better():
    assert [better(name) for name in ("screening/P_D@5", "smith/screening_EMA/P_FA@90-gun")] == ["max", "min"]
