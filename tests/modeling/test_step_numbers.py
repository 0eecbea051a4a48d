"""Numbers of a step that are put when somebody asks for them."""

import math

import torch
from detectron2.utils.events import EventStorage

from xray_lazy.modeling.step_numbers import StepStorage, put_numbers


def fill(storage):
    with storage:
        for storage.iter in range(3, 8):
            share = math.nan if storage.iter % 2 else 1.0
            put_numbers(loss=torch.tensor(float(storage.iter)), share=torch.tensor(share))
            storage.put_scalar("lr", 0.1)
            with storage.name_scope("stage1"):
                put_numbers(loss=torch.tensor(2.0))
            if isinstance(storage, StepStorage) and storage.iter < 7:
                storage.send()
    return storage


def read(storage):
    histories = {name: history.values() for name, history in storage.histories().items()}
    return histories, storage.latest(), storage.latest_with_smoothing_hint(3), storage.history("loss").median(2)


def test_what_is_put_later_is_read_as_if_it_had_been_put_at_once():
    assert read(fill(StepStorage())) == read(fill(EventStorage()))


def test_a_scope_in_which_numbers_are_read_does_not_change_their_names():
    storage = StepStorage()
    with storage, storage.name_scope("stage0"):
        put_numbers(loss=torch.tensor(1.0))
        assert list(storage.latest()) == ["stage0/loss"]


def test_numbers_of_earlier_steps_can_be_put_without_those_of_this_one():
    storage = fill(StepStorage())
    storage.settle(before=5)
    assert [iteration for _, iteration in storage._history["loss"].values()] == [3, 4]
