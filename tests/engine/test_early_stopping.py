"""Early stopping: when it counts, what a stopped run leaves, and that a resumed one goes on counting."""

import math
from types import SimpleNamespace

import pytest
from detectron2.utils.events import EventStorage

from tests.engine.test_run import lines_of, losses_of, start, weights_of
from xray_lazy.engine.hooks.early_stopping import EarlyStopping
from xray_lazy.errors import UserError

# no loss is better than the first one by 200
STOP = ["hooks.early_stopping.patience=2", "hooks.early_stopping.min_delta=200", "train.eval_period=1"]
STOP += ["train.max_iter=8", "hooks.early_stopping.metric=val_loss/total_loss", "hooks.validation_loss.period=1"]
STOP += ["dataloader.test.dataset.max_pictures=2", "~hooks.prediction_pictures"]


def stops_at(values, max_iter=100, name="bbox/AP", suffixes=("",), **options):
    """The index of the value after which a stop is requested, None without one; and the hook."""
    hook = EarlyStopping(options.pop("metric", "bbox/AP"), **options)
    asked = []
    hook.trainer = SimpleNamespace(
        is_finished=False,
        evaluated_models=dict.fromkeys(suffixes),
        named_hooks={"early_stopping": hook},
        checkpointer=SimpleNamespace(save_dir="no_such_folder"),
        request_stop=lambda reason, finish: asked.append((reason, finish)),
    )
    with EventStorage(0) as hook.trainer.storage:
        hook.before_train()
        for hook.trainer.iter, value in enumerate(values):
            hook.before_step()
            if asked:
                assert asked[0][1]  # training is complete
                return hook.trainer.iter - 1, hook
            hook.trainer.storage.iter = hook.trainer.iter
            hook.trainer.iterations_done = hook.trainer.iter + 1
            if value is not None:
                hook.trainer.storage.put_scalar(name, value, smoothing_hint=False)
            hook.after_step()
    return None, hook


NAN = math.nan
THE_REST = [1.0] * 5


@pytest.mark.parametrize(
    ("values", "options", "stop"),
    [
        ([1, 2, 2, 2, 2], {"patience": 2}, 3),
        ([1, 2, 2, 2, 2], {"patience": None}, None),
        ([1, 2, 3, 4, 5, 6], {"patience": 2}, None),
        ([1, 2, 3, 4, 5, 6], {"patience": 2, "mode": "min"}, 2),
        ([1, 0.9, 0.95, 0.8, 0.81, 0.82, 0.83], {"patience": 2, "mode": "min"}, 5),
        ([10, 10.5, 10.9, 11.5, 11.6, 12], {"patience": 2, "min_delta": 1.0}, 2),
        ([3, 1, 1, 1, 1, 1], {"patience": 2, "warmup_iters": 4}, 4),
        ([3, NAN, 2, 1, 1], {"patience": 2}, 2),
        ([NAN, NAN, NAN], {"patience": 2}, 1),
        ([NAN, 1, 2, NAN, 3], {"patience": 2}, None),
        ([3, None, None, None, 2, None, 1, None], {"patience": 2}, 6),
    ],
)
def test_training_stops_after_so_many_evaluations_without_a_better_value(values, options, stop):
    assert stops_at(values, **options)[0] == stop


def test_where_averaged_weights_alone_are_evaluated_their_metric_counts():
    assert stops_at([2, 1, 1, 1], name="bbox_EMA/AP", suffixes=["_EMA"], patience=2)[0] == 2


@pytest.mark.parametrize(
    ("before", "after", "goes_on"),
    [
        ({"patience": 2}, {"patience": 2}, False),
        ({"patience": 2}, {"patience": 1, "min_delta": 0.5}, False),
        ({"patience": 2}, {"patience": 3}, True),
        ({"patience": 2}, {"patience": None}, True),
        ({"patience": None}, {"patience": 2}, True),
        ({"patience": 2}, {"patience": 2, "metric": "segm/AP"}, True),
        ({"patience": 2}, {"patience": 2, "mode": "min"}, True),
    ],
)
def test_settings_that_change_at_a_resume_decide_whether_the_count_is_still_theirs(before, after, goes_on, caplog):
    first, metric = stops_at([40, 39, 38, 37], **before)[1], after.get("metric", "bbox/AP")
    first.has_ended = first._is_exhausted()
    resumed = EarlyStopping(**{"metric": metric, **after})
    resumed.load_state_dict(first.state_dict())
    asked = []
    resumed.trainer = SimpleNamespace(request_stop=lambda reason, finish: asked.append(reason))
    resumed.before_train()
    assert (not asked) == goes_on
    is_told = "counts anew" in caplog.text
    assert is_told == any(after.get(name, old) != old for name, old in (("metric", "bbox/AP"), ("mode", "max")))
    assert resumed.best_value == (None if is_told or before["patience"] is None else 40)


def test_a_name_that_no_one_logs_gives_one_warning_with_near_names(caplog):
    stop, _ = stops_at([1, 2, 3, 4], metric="bbox/PA", patience=2)
    assert stop is None
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == 1 and "bbox/PA" in warnings[0] and "bbox/AP" in warnings[0]


def test_evaluations_without_a_number_are_one_warning(caplog):
    stops_at([NAN, NAN, NAN], patience=3)
    (warning,) = [record.getMessage() for record in caplog.records]
    assert "bbox/AP has no number in this evaluation: for early stopping it is no improvement" in warning


def test_a_stopped_run_ends_as_any_other(output):
    folder, overrides = output
    start([*overrides, *STOP])
    # the first value is the best one, two more exhaust the patience, and one more step is the last
    assert max(losses_of(folder)) == 3
    assert (folder / "last_checkpoint").read_text() == "model_final.pth"
    assert (folder / "evaluation" / "tiny_2of8" / "iter_3" / "metrics.json").is_file()
    assert "bbox/AP" in lines_of(folder)[-1]
    log = (folder / "log.txt").read_text()
    assert "early stopping, val_loss/total_loss was not better than" in log and "in 2 evaluations" in log


def test_a_resumed_run_keeps_counting(output):
    folder, overrides = output
    stop = "+hooks.stop={_target_: tests.engine.hooks_for_tests.StopAt, iteration: 1}"
    start([*overrides, *STOP, stop])
    assert max(losses_of(folder)) == 1
    start([*overrides, *STOP], resume=True, overwrite=True)
    assert max(losses_of(folder)) == 3


def test_a_run_that_had_ended_trains_no_more_unless_the_patience_is_raised(output):
    folder, overrides = output
    start([*overrides, *STOP])
    written = (folder / "model_final.pth").stat().st_mtime_ns
    start([*overrides, *STOP], resume=True)
    assert max(losses_of(folder)) == 3 and (folder / "model_final.pth").stat().st_mtime_ns == written
    assert "no training: early stopping" in (folder / "log.txt").read_text()
    start([*overrides, *STOP, "hooks.early_stopping.patience=3"], resume=True, overwrite=True)
    assert max(losses_of(folder)) == 5


def test_a_run_that_was_killed_before_its_last_step_makes_it(output):
    folder, overrides = output
    crash = "+hooks.crash={_target_: tests.engine.hooks_for_tests.CrashAt, iteration: 3}"
    overrides = [*overrides, *STOP, "train.checkpointer.period=1"]
    with pytest.raises(ZeroDivisionError):
        start([*overrides, crash])
    assert (folder / "last_checkpoint").read_text() == "model_0000002.pth"
    start(overrides, resume=True, overwrite=True)
    assert max(losses_of(folder)) == 3
    assert weights_of(folder / "model_final.pth")


@pytest.mark.slow
def test_two_processes_stop_together(output):
    folder, overrides = output
    start([*overrides, *STOP], num_processes=2)
    assert max(losses_of(folder)) == 3
    assert (folder / "last_checkpoint").read_text() == "model_final.pth"


@pytest.mark.parametrize("options", [{"mode": "best", "patience": 2}, {"patience": 0}])
def test_settings_that_can_not_be_meant_are_refused(options):
    with pytest.raises(UserError, match=r"hooks\.early_stopping"):
        EarlyStopping("bbox/AP", **options)
