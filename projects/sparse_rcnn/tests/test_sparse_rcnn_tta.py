"""Test-time augmentation of a model without NMS."""

import cv2
import pytest
import torch
from tiny_sparse_rcnn import detect, tiny_model

from xray_lazy.evaluation import test_time_augmentation as augmentation

HEIGHT, WIDTH = 64, 96


@pytest.fixture
def record(tmp_path):
    """A bag in its own size, as the test mapper gives it at that size."""
    pixels = torch.randint(0, 256, (HEIGHT, WIDTH, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    cv2.imwrite(str(tmp_path / "bag.png"), pixels.numpy())
    image = pixels.flip(-1).permute(2, 0, 1).contiguous()  # RGB
    return {"file_name": str(tmp_path / "bag.png"), "height": HEIGHT, "width": WIDTH, "image": image}


def augmented(model, lengths, flip):
    return augmentation.TestTimeAugmentation(
        model, lengths, max_size=500, horizontal_flip=flip, image_format="RGB", nms_threshold=1.0
    ).eval()


def test_one_copy_without_merging_has_the_plain_scores_and_masks(record):
    model = tiny_model(masks=True).eval()
    plain = detect(model, [record])[0]
    with torch.no_grad():
        found = augmented(model, [HEIGHT], flip=False)([record])[0]["instances"]
    torch.testing.assert_close(found.scores, plain.scores)
    assert (found.pred_masks == plain.pred_masks).float().mean() > 0.99


def test_several_copies_give_the_best_of_all_within_the_image(record):
    model = tiny_model(masks=True).eval()
    with torch.no_grad():
        found = augmented(model, [48, 64, 80], flip=True)([record])[0]["instances"]
    assert 0 < len(found) <= 100
    assert (found.scores[:-1] >= found.scores[1:]).all()
    assert found.pred_masks.shape == (len(found), HEIGHT, WIDTH)
    corners = found.pred_boxes.tensor
    assert (corners >= 0).all() and (corners[:, 2] <= WIDTH).all() and (corners[:, 3] <= HEIGHT).all()
