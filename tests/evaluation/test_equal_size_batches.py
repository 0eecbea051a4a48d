"""Batches for evaluation that pad no image to the size of another."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.evaluation.test_encoded_inference import bags, batches, mask_model  # noqa: F401
from xray_lazy.data.equal_size_batches import EqualSizeBatches


@given(st.lists(st.sampled_from([(1, 2), (2, 1), (3, 3)]), max_size=30), st.integers(1, 5))
def test_each_image_is_in_one_batch_of_its_size_and_as_few_are_left_over_as_can_be(sizes, batch_size):
    indices = range(0, len(sizes), 2)
    found = EqualSizeBatches(indices, sizes, batch_size)
    assert sorted(index for batch in found for index in batch) == list(indices)
    assert all(len({sizes[index] for index in batch}) == 1 for batch in found)
    own = [sizes[index] for index in indices]
    assert len(found) == len(list(found)) == sum(-(-own.count(size) // batch_size) for size in set(own))
    if batch_size == 1:
        assert [batch[0] for batch in found] == list(indices)


@torch.no_grad()
def test_a_batch_of_equal_sizes_changes_no_detection(mask_model, bags):  # noqa: F811
    samples = [batch[0] for batch in batches(bags)]
    alone = {sample["image_id"]: mask_model([sample])[0]["instances"] for sample in samples}
    sizes = [(record["height"], record["width"]) for record in bags]
    grouped = list(EqualSizeBatches(range(len(bags)), sizes, 3))
    assert sorted(map(len, grouped)) == [2, 3]
    for batch in grouped:
        together = [samples[index] for index in batch]
        for sample, output in zip(together, mask_model(together), strict=True):
            found, expected = output["instances"], alone[sample["image_id"]]
            torch.testing.assert_close(found.pred_boxes.tensor, expected.pred_boxes.tensor, rtol=0, atol=1e-3)
            torch.testing.assert_close(found.scores, expected.scores)
            assert (found.pred_masks != expected.pred_masks).float().mean() < 1e-4
