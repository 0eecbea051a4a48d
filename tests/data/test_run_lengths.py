"""Run lengths in the text of RLEs, one by one and many at a time."""

from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from xray_lazy.data.masks.run_lengths import TEXTS_AT_ONCE, first_unsound, run_lengths

runs = st.lists(st.integers(0, 3000), min_size=1, max_size=12)


def rle_of(lengths, beside=0):
    """Of one row as long as the runs, but for `beside` pixels."""
    size = [1, sum(lengths) + beside]
    text = coco_mask.frPyObjects({"size": size, "counts": lengths}, *size)["counts"].decode()
    return {"size": size, "counts": text}


@given(runs)
def test_a_text_has_the_runs_that_pycocotools_wrote(lengths):
    assert run_lengths(rle_of(lengths)["counts"]).tolist() == lengths


@given(st.lists(runs, max_size=8), st.integers(0, 8), runs, st.integers(0, TEXTS_AT_ONCE), st.sampled_from([0, 1]))
def test_the_first_mask_that_does_not_add_up_is_found(sound, place, lengths, more, beside):
    masks = [rle_of(one) for one in sound] + [rle_of([5, 5])] * more
    masks.insert(place, rle_of(lengths, beside))
    assert first_unsound(masks) == (min(place, len(masks) - 1) if beside else None)


def test_a_text_that_is_cut_within_a_number_is_not_sound():
    whole = rle_of([5, 3000])
    for end in range(len(whole["counts"])):
        assert first_unsound([whole, whole | {"counts": whole["counts"][:end]}, whole]) == 1


def test_no_mask_at_all_is_sound():
    assert first_unsound([]) is None
