"""Draws of anchors and proposals follow picture and iteration."""

import torch
from detectron2.utils.events import EventStorage
from hypothesis import given
from hypothesis import strategies as st

from xray_lazy.modeling.picture_sampling import PictureDraws


def draw(draws, labels, count=8, fraction=0.5):
    return draws.subsample(labels, count, fraction, background=0)


@given(st.lists(st.integers(-1, 2), max_size=60), st.integers(0, 20), st.sampled_from([0.25, 0.5, 1.0]))
def test_a_draw_has_the_right_numbers_of_the_right_labels(values, count, fraction):
    labels = torch.tensor(values, dtype=torch.int64)
    draws = PictureDraws(seed=0)
    draws.start(1)
    positive, negative = draw(draws, labels, count, fraction)
    foreground, background = int((labels > 0).sum()), int((labels == 0).sum())
    assert len(positive) == min(foreground, int(count * fraction))
    assert len(negative) == min(background, count - len(positive))
    assert (labels[positive] > 0).all() and (labels[negative] == 0).all()
    assert len(set(positive.tolist())) == len(positive) and len(set(negative.tolist())) == len(negative)


def test_draws_ignore_the_global_random_state_and_change_with_iteration_and_place():
    labels = torch.zeros(200, dtype=torch.int64)

    def negatives(iteration, place):
        with EventStorage(iteration):
            draws = PictureDraws(seed=4)
            draws.start(place + 1)
            return [draw(draws, labels)[1].tolist() for _ in range(place + 1)][-1]

    torch.manual_seed(0)
    first = negatives(10, 0)
    torch.manual_seed(1)
    assert negatives(10, 0) == first
    assert negatives(11, 0) != first and negatives(10, 1) != first
