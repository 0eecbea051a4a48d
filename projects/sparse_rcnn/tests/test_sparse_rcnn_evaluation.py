"""Evaluation encodes the masks of Sparse R-CNN without making bitmaps of whole images: they are the same."""

import numpy as np
import pytest
import torch
from tiny_sparse_rcnn import detect, tiny_model

from xray_lazy.evaluation.encoded_inference import encoding_masks

IMAGE = {"image": torch.randint(0, 256, (3, 64, 96), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)}


@pytest.mark.parametrize("masks", [True, False])
def test_encoded_masks_are_those_of_the_plain_output(masks):
    model = tiny_model(masks=masks).eval()
    batch = [{**IMAGE, "height": 128, "width": 192}, {**IMAGE, "height": 30, "width": 40}, IMAGE]
    with torch.no_grad():
        outputs = encoding_masks(model)(batch)
    for output, plain in zip(outputs, detect(model, batch), strict=True):
        found = output["instances"]
        assert len(found) == len(plain) > 0 and found.image_size == plain.image_size
        assert torch.equal(found.pred_boxes.tensor, plain.pred_boxes.tensor)
        assert found.has("pred_masks") == masks
        if masks:
            assert plain.pred_masks.any()
            np.testing.assert_array_equal(found.pred_masks.bitmaps(), plain.pred_masks.numpy())
