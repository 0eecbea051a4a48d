"""When the writers write, with the real trainer on a model of a few weights."""

import pytest
from detectron2.engine.train_loop import HookBase
from detectron2.utils.events import EventStorage, EventWriter, get_event_storage

from tests.engine.small_training import train_small
from xray_lazy.engine.hooks.evaluation import Evaluation
from xray_lazy.engine.hooks.write_events import WriteEvents
from xray_lazy.tracking.logged_names import LoggedNames
from xray_lazy.tracking.writer import UnwrittenScalars, Writer, axes_at


class OldWriter(EventWriter):
    """One of detectron2's kind, that knows of no period."""

    def __init__(self):
        self.written = []

    def write(self):
        self.written.append(get_event_storage().iter)


class NewWriter(OldWriter, Writer):
    def __init__(self, period):
        super().__init__()
        self.period = period


class Surroundings(HookBase):
    """The writers of a test, and a step that may be the last one."""

    def __init__(self, writers, stop_at=None):
        self.writers, self.stop_at = writers, stop_at

    def before_train(self):
        self.trainer.writers = self.writers

    def before_step(self):
        if self.trainer.iter == self.stop_at:
            self.trainer.request_stop("the test has seen enough")


@pytest.fixture
def writers():
    return {
        "each": NewWriter(1),
        "some": NewWriter(4),
        "rare": NewWriter(0),
        "default": NewWriter(None),
        "old": OldWriter(),
    }


def train(folder, writers, iterations, *hooks, stop_at=None, **options):
    named = {str(place): hook for place, hook in enumerate(hooks)}
    train_small(
        folder, {"first": Surroundings(writers, stop_at), **named, "write": WriteEvents(5)}, iterations, **options
    )
    return {name: [iteration + 1 for iteration in writer.written] for name, writer in writers.items()}


def test_each_writer_has_its_period_and_all_write_after_an_evaluation_and_at_the_end(tmp_path, writers):
    assert train(tmp_path, writers, 11, Evaluation(period=6), values=range(11)) == {
        "each": [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11],
        "some": [4, 6, 8, 11],
        "rare": [6, 11],
        "default": [5, 6, 10, 11],
        "old": [5, 6, 10, 11],
    }


def test_a_run_that_is_stopped_is_written_to_its_last_step(tmp_path, writers):
    written = train(tmp_path, writers, 100, stop_at=2)
    assert written == {"each": [1, 2, 3], "some": [3], "rare": [3], "default": [3], "old": [3]}


class Measure(HookBase):
    def after_step(self):
        if self.trainer.iter == 1:
            self.trainer.put_results({"belt/speed": 0.2})


def test_what_a_hook_of_ones_own_puts_as_results_is_written_at_once(tmp_path, writers):
    assert train(tmp_path, writers, 3, Measure())["rare"] == [2, 3]


def test_raw_values_stand_beside_the_median_of_what_the_patterns_name():
    scalars = UnwrittenScalars(3, LoggedNames([["*", "train/*"], ["raw/**", "train_raw/**", 10]]), ["*loss*", "norm"])
    with EventStorage() as storage:
        for storage.iter, value in enumerate([1.0, 5.0, 9.0, 2.0]):
            storage.put_scalars(loss=value, time=value)
            storage.put_scalars(smoothing_hint=False, loss_scale=value)
        assert scalars.take(storage) == {
            3: {"train/loss": 5.0, "train_raw/loss": 20.0, "train/time": 5.0, "train/loss_scale": 2.0}
        }
        assert scalars.take(storage) == {}


def test_each_value_is_handed_out_once_at_its_own_iteration():
    scalars = UnwrittenScalars()
    with EventStorage(4) as storage:
        storage.put_scalar("speed", 0.2, smoothing_hint=False)
        storage.iter = 7
        storage.put_scalar("loss", 1.0)
        assert scalars.take(storage) == {4: {"speed": 0.2}, 7: {"loss": 1.0}}
        storage.put_scalar("bbox/AP", 30.0, smoothing_hint=False)
        assert scalars.take(storage) == {7: {"bbox/AP": 30.0}}


def test_axes_are_known_for_each_iteration_once_they_were_put():
    with EventStorage(9) as storage:
        assert axes_at(storage, 3) == {"iteration": 3}
        storage.put_scalars(smoothing_hint=False, epoch=10 * 8 / 120, images_seen=80)
        assert axes_at(storage, 9) == {"iteration": 9, "epoch": 10 * 8 / 120, "images_seen": 80}
        assert axes_at(storage, 3) == {"iteration": 3, "epoch": pytest.approx(4 * 8 / 120), "images_seen": 32}
