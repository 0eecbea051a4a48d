"""Draws of anchors and proposals follow image and iteration."""

import torch
from detectron2.utils.events import EventStorage
from hypothesis import given
from hypothesis import strategies as st

from xray_lazy.modeling.picture_sampling import ImageDraws


def draw(labels, count=8, fraction=0.5, iteration=10, seed=0):
    """Indices of positives and negatives of each image; labels `(B, N)`, 1, 0, or -1 for what is never drawn."""
    with EventStorage(iteration):
        draws = ImageDraws(seed)
        draws.start(len(labels))
    found = draws.draw(labels == 1, labels == 0, count, fraction)
    sides = zip(found.places, found.drawn, strict=True)
    limit = found.positives
    result = [(p[:limit][d[:limit]].tolist(), p[limit:][d[limit:]].tolist()) for p, d in sides]
    assert found.counts().tolist() == [[len(side) for side in of_image] for of_image in result]
    return result


@given(
    st.integers(1, 3).flatmap(lambda n: st.lists(st.lists(st.integers(-1, 1), min_size=n, max_size=n), min_size=1)),
    st.integers(0, 20),
    st.sampled_from([0.25, 0.5, 1.0]),
)
def test_a_draw_has_the_right_numbers_of_the_right_labels(values, count, fraction):
    labels = torch.tensor(values, dtype=torch.int64).T
    for of_image, (positive, negative) in zip(labels, draw(labels, count, fraction), strict=True):
        foreground, background = int((of_image == 1).sum()), int((of_image == 0).sum())
        assert len(positive) == min(foreground, int(count * fraction))
        assert len(negative) == min(background, count - len(positive))
        assert (of_image[positive] == 1).all() and (of_image[negative] == 0).all()
        assert len(set(positive)) == len(positive) and len(set(negative)) == len(negative)


def test_draws_ignore_the_global_random_state_and_change_with_seed_iteration_and_place():
    labels = torch.zeros(2, 200, dtype=torch.int64)
    torch.manual_seed(0)
    first = draw(labels)
    torch.manual_seed(1)
    assert draw(labels) == first and first[0] != first[1]
    assert draw(labels, iteration=11) != first and draw(labels, seed=1) != first


def test_a_image_is_drawn_the_same_whatever_else_is_in_the_batch():
    few, many = torch.zeros(1, 300, dtype=torch.int64), torch.zeros(3, 300, dtype=torch.int64)
    many[1:] = 1
    assert draw(few)[0] == draw(many)[0]


def test_over_many_iterations_all_are_drawn_alike_and_without_regard_to_each_other():
    count, iterations, size = 8, 3000, 40
    labels = torch.zeros(1, size, dtype=torch.int64)
    drawn = torch.zeros(iterations, size)
    for iteration in range(iterations):
        drawn[iteration, draw(labels, count, iteration=iteration)[0][1]] = 1
    share = count / size
    # five standard deviations of what chance does
    assert (drawn.mean(0) - share).abs().max() < 5 * (share * (1 - share) / iterations) ** 0.5
    together = (drawn.T @ drawn / iterations).fill_diagonal_(share * (count - 1) / (size - 1))
    expected = share * (count - 1) / (size - 1)
    assert (together - expected).abs().max() < 5 * (expected / iterations) ** 0.5
    following = (drawn[1:] * drawn[:-1]).mean()
    assert abs(following - share**2) < 5 * share / (iterations * size) ** 0.5
