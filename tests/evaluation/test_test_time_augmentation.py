"""Detections of scaled and flipped copies, and how they are merged, on the demo's Mask R-CNN made tiny."""

import cv2
import numpy as np
import pytest
import torch
from detectron2.config import instantiate
from detectron2.data import transforms as T
from detectron2.structures import Boxes, Instances
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from xray_lazy.config import get_config
from xray_lazy.data.mapper import DetectionMapper
from xray_lazy.errors import UserError
from xray_lazy.evaluation import test_time_augmentation as augmentation  # names with Test would be collected
from xray_lazy.evaluation.test_time_augmentation import merge_detections, scaled_copies

HEIGHT, WIDTH = 90, 130
TEST_SCALE = {"short_edge_lengths": [60], "max_size": 100}


def tiny_config(masks=True):
    cfg = get_config("xray/mask_rcnn_r18_demo.py")
    cfg.model.backbone.out_channels = 16
    cfg.model.proposal_generator.update(pre_nms_topk=(50, 50), post_nms_topk=(20, 20))
    cfg.model.roi_heads.num_classes = 3
    cfg.model.roi_heads.box_head.fc_dims = [16]
    cfg.model.roi_heads.box_predictor.input_shape.channels = 16
    cfg.model.roi_heads.mask_head.conv_dims = [16]
    cfg.model.roi_heads.box_predictor.test_score_thresh = 0.0  # an untrained model is sure of nothing
    if not masks:
        for key in ("mask_in_features", "mask_pooler", "mask_head"):
            cfg.model.roi_heads.pop(key)
    return cfg


@pytest.fixture(scope="module", params=[True, False], ids=["masks", "boxes"])
def model(request):
    torch.manual_seed(0)
    return instantiate(tiny_config(request.param).model).eval()


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    """An image with some items in it, as the test loader gives it."""
    path = str(tmp_path_factory.mktemp("pictures") / "bag.png")
    random = np.random.default_rng(3)
    image = np.full((HEIGHT, WIDTH, 3), 235, np.uint8)
    for _ in range(6):
        x, y = random.integers(0, (WIDTH - 40, HEIGHT - 30))
        image[y : y + 25, x : x + 35] = random.integers(0, 200, 3)
    cv2.imwrite(path, image)
    return mapped(path)


def mapped(path):
    entry = {"file_name": path, "image_id": 1, "height": HEIGHT, "width": WIDTH, "annotations": []}
    resize = T.ResizeShortestEdge(TEST_SCALE["short_edge_lengths"][0], TEST_SCALE["max_size"])
    return DetectionMapper([resize], is_train=False, with_masks=False)(entry)


@torch.no_grad()
def detect(model, record):
    return model([record])[0]["instances"]


def augmented(model, **changes):
    return augmentation.TestTimeAugmentation(model, **(TEST_SCALE | {"horizontal_flip": False} | changes)).eval()


def test_one_copy_at_the_test_scale_gives_the_plain_detections(model, record):
    plain, found = detect(model, record), detect(augmented(model), record)
    assert len(plain) > 10 and found.image_size == plain.image_size == (HEIGHT, WIDTH)
    torch.testing.assert_close(found.pred_boxes.tensor, plain.pred_boxes.tensor, rtol=0, atol=1e-3)
    torch.testing.assert_close(found.scores, plain.scores)
    assert torch.equal(found.pred_classes, plain.pred_classes)
    assert found.has("pred_masks") == plain.has("pred_masks")
    if plain.has("pred_masks"):
        assert plain.pred_masks.any()
        assert (found.pred_masks == plain.pred_masks).float().mean() > 0.9999


def test_a_mirrored_image_has_mirrored_detections(model, record, tmp_path):
    """An image and its mirror image have the same copies in another order: what is found must be mirrored, too."""
    for axis, flip in ((1, "horizontal_flip"), (0, "vertical_flip")):
        mirrored = str(tmp_path / f"{flip}.png")
        cv2.imwrite(mirrored, np.ascontiguousarray(np.flip(cv2.imread(record["file_name"]), axis)))
        both_ways = augmented(model, **{flip: True})
        one, other = detect(both_ways, record), detect(both_ways, mapped(mirrored))
        mirror = T.HFlipTransform(WIDTH) if axis else T.VFlipTransform(HEIGHT)
        assert len(one) == len(other) > 10
        torch.testing.assert_close(one.scores, other.scores, rtol=1e-3, atol=1e-5)
        expected = torch.from_numpy(mirror.apply_box(other.pred_boxes.tensor.numpy()))
        torch.testing.assert_close(one.pred_boxes.tensor, expected, rtol=0, atol=0.01)
        if one.has("pred_masks"):
            assert one.pred_masks.any()
            assert (one.pred_masks == other.pred_masks.flip([axis - 2])).float().mean() > 0.999


def test_all_copies_together_keep_within_the_limit_and_the_image(model, record):
    wide = augmented(
        model, short_edge_lengths=[40, 60, 90], max_size=200, horizontal_flip=True, vertical_flip=True, batch_size=5
    )
    assert len(wide.copies(cv2.imread(record["file_name"]))) == 3 * 4
    found = detect(wide, record)
    assert 10 < len(found) <= 100
    boxes = found.pred_boxes.tensor
    assert (boxes[:, :2] >= 0).all() and (boxes[:, 2:] <= torch.tensor([WIDTH, HEIGHT])).all()
    assert (found.scores.diff() <= 0).all()
    limited = detect(augmented(model, horizontal_flip=True, detections_per_image=3), record)
    assert len(limited) == 3


def test_the_number_of_copies_per_pass_does_not_change_the_result(model, record):
    one, four = (
        detect(augmented(model, horizontal_flip=True, vertical_flip=True, batch_size=n), record) for n in (1, 4)
    )
    torch.testing.assert_close(one.pred_boxes.tensor, four.pred_boxes.tensor, rtol=0, atol=1e-3)
    torch.testing.assert_close(one.scores, four.scores)


def test_the_copies_are_made_from_the_file_and_not_from_the_resized_input(model, record):
    copy = augmented(model, short_edge_lengths=[HEIGHT], max_size=WIDTH).copies(cv2.imread(record["file_name"]))[0]
    assert np.array_equal(copy.image.permute(1, 2, 0).numpy(), cv2.imread(record["file_name"]))
    smaller = record | {"image": torch.zeros(3, 8, 8, dtype=torch.uint8)}
    assert torch.equal(detect(augmented(model), smaller).scores, detect(augmented(model), record).scores)


def test_a_model_for_rgb_gets_rgb(model):
    blue_first = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    blue_first[..., 0] = 255
    assert augmented(model, image_format="RGB").copies(blue_first)[0].image[:, 0, 0].tolist() == [0, 0, 255]
    assert augmented(model, image_format="BGR").copies(blue_first)[0].image[:, 0, 0].tolist() == [255, 0, 0]


def test_where_nothing_is_found_no_time_goes_into_masks(record):
    cfg = tiny_config()
    cfg.model.roi_heads.box_predictor.test_score_thresh = 0.999
    model = instantiate(cfg.model).eval()
    passes = []
    model.backbone.register_forward_hook(lambda *_: passes.append(1))
    found = detect(augmented(model, horizontal_flip=True, batch_size=1), record)
    assert len(found) == 0 and found.pred_boxes.tensor.shape == (0, 4)
    assert found.pred_masks.shape == (0, HEIGHT, WIDTH)
    assert len(passes) == 2


def test_the_mask_head_is_on_again_after_a_failure(record):
    model = instantiate(tiny_config().model).eval()
    wrapped = augmented(model)
    with pytest.raises(TypeError):
        model.roi_heads.box_predictor, kept = None, model.roi_heads.box_predictor
        detect(wrapped, record)
    model.roi_heads.box_predictor = kept
    assert model.roi_heads.mask_on and detect(model, record).has("pred_masks")


class OwnMasks(nn.Module):
    """The tiny Mask R-CNN as a model that isn't one: masks come with the detections, none for given boxes."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def inference(self, inputs, do_postprocess=True):
        return self.model.inference(inputs, do_postprocess=do_postprocess)

    def forward(self, inputs):
        return self.inference(inputs)


def test_other_models_masks_are_those_of_the_kept_detections(record):
    torch.manual_seed(0)
    model = OwnMasks(instantiate(tiny_config().model)).eval()
    plain, found = detect(model, record), detect(augmented(model), record)
    assert plain.pred_masks.any() and torch.equal(found.pred_classes, plain.pred_classes)
    assert (found.pred_masks == plain.pred_masks).float().mean() > 0.9999
    turned = augmented(model)
    turned.flips = [(-1,)]
    mirrored_input = record | {"image": record["image"].flip(-1)}
    expected = detect(model, mirrored_input).pred_masks.flip(-1)
    assert (detect(turned, record).pred_masks == expected).float().mean() > 0.999


def copy_of(size, length, max_size, flipped_axes=()):
    image = np.zeros((*size, 3), np.uint8)
    return next(scaled_copies(image, T.ResizeShortestEdge(length, max_size), [flipped_axes]))


@settings(max_examples=100, deadline=None)
@given(
    size=st.tuples(st.integers(16, 2000), st.integers(16, 2000)),
    length=st.integers(1, 300),
    flipped_axes=st.lists(st.sampled_from([-1, -2]), unique=True).map(tuple),
    corners=st.lists(st.tuples(*[st.floats(0, 1, width=32)] * 4), max_size=5),
)
def test_boxes_come_back_from_any_copy(size, length, flipped_axes, corners):
    copy = copy_of(size, length, 400, flipped_axes)
    height, width = size
    relative = torch.tensor(corners).reshape(-1, 2, 2).sort(dim=1).values.flatten(1)
    boxes = relative * torch.tensor([width, height, width, height])
    there = copy.boxes_from_file(boxes)
    limits = torch.tensor([copy.image.shape[2], copy.image.shape[1]])
    assert (there[:, :2] >= -1e-3).all() and (there[:, 2:] <= limits + 1e-3).all()
    assert (there[:, 2:] >= there[:, :2]).all()
    torch.testing.assert_close(copy.boxes_to_file(there), boxes, rtol=0, atol=0.01)


@pytest.mark.parametrize("flipped_axes", [(), (-1,), (-2,), (-1, -2)])
def test_boxes_lie_on_a_copy_where_its_pixels_do(flipped_axes):
    image = np.zeros((40, 60, 3), np.uint8)
    image[4:12, 6:26] = 255
    copy = next(scaled_copies(image, T.ResizeShortestEdge(80, 200), [flipped_axes]))
    x0, y0, x1, y1 = copy.boxes_from_file(torch.tensor([[6.0, 4.0, 26.0, 12.0]]))[0].int().tolist()
    assert copy.image.shape == (3, 80, 120) and (x1 - x0, y1 - y0) == (40, 16)
    bright = copy.image[0] > 127
    assert bright[y0:y1, x0:x1].all() and bright.sum() == 40 * 16


FILE_SIZED = copy_of((HEIGHT, WIDTH), HEIGHT, WIDTH)


def detections(boxes, scores, classes, size=(HEIGHT, WIDTH)):
    return Instances(
        size,
        pred_boxes=Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)),
        scores=torch.tensor(scores),
        pred_classes=torch.tensor(classes, dtype=torch.int64),
    )


def test_an_item_found_on_each_copy_is_one_detection_and_classes_do_not_suppress_each_other():
    as_is, flipped = FILE_SIZED, copy_of((HEIGHT, WIDTH), HEIGHT, WIDTH, (-1,))
    found = [
        detections([[10, 10, 40, 40], [10, 10, 40, 40]], [0.9, 0.3], [0, 1]),
        detections([[WIDTH - 41, 11, WIDTH - 11, 41], [0, 50, 20, 70]], [0.8, 0.5], [0, 0]),
    ]
    merged = merge_detections(found, [as_is, flipped], (HEIGHT, WIDTH), 0.5, 100)
    assert merged.pred_boxes.tensor.tolist() == [[10, 10, 40, 40], [WIDTH - 20, 50, WIDTH, 70], [10, 10, 40, 40]]
    assert merged.scores.tolist() == pytest.approx([0.9, 0.5, 0.3])
    assert merged.pred_classes.tolist() == [0, 0, 1]


def test_what_is_not_a_number_leaves_the_other_detections_alone():
    nan = float("nan")
    boxes = [[nan] * 4, [0, 0, 9, 9], [1, 0, 9, 9], [5, 5, 5, 9], [50, 50, 60, 60]]
    found = detections(boxes, [0.9, 0.8, 0.7, 0.6, nan], [0] * 5)
    merged = merge_detections([found], [FILE_SIZED], (HEIGHT, WIDTH), 0.5, 100)
    assert merged.pred_boxes.tensor.tolist() == [[0, 0, 9, 9]]


def test_boxes_are_compared_as_far_as_they_lie_in_the_image():
    found = detections([[-40, 0, 20, 20], [0, 0, 20, 20]], [0.9, 0.8], [0, 0])
    merged = merge_detections([found], [FILE_SIZED], (HEIGHT, WIDTH), 0.5, 100)
    assert merged.pred_boxes.tensor.tolist() == [[0, 0, 20, 20]]


def test_thousands_of_low_scores_of_a_model_without_nms_are_merged():
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(3000, 2, generator=generator) * torch.tensor([WIDTH - 20, HEIGHT - 20])
    boxes = torch.cat([corners, corners + 20], dim=1)
    found = Instances(
        (HEIGHT, WIDTH),
        pred_boxes=Boxes(boxes),
        scores=torch.rand(3000, generator=generator) * 0.02,
        pred_classes=torch.randint(0, 256, (3000,), generator=generator),
        pred_masks=torch.rand(3000, 1, 28, 28, generator=generator),
    )
    merged = merge_detections([found], [FILE_SIZED], (HEIGHT, WIDTH), 0.5, 100)
    assert len(merged) == 100 and merged.scores[0] == found.scores.max()
    source = (found.scores == merged.scores[:, None]).int().argmax(dim=1)
    assert torch.equal(merged.pred_masks, found.pred_masks[source])


@pytest.mark.parametrize(("setting", "value"), [("short_edge_lengths", []), ("batch_size", 0)])
def test_settings_that_look_at_nothing_are_refused(model, setting, value):
    with pytest.raises(UserError, match="nothing to look at") as error:
        augmented(model, **{setting: value})
    assert f"test.tta.model.{setting}" in error.value.fix


def test_a_model_that_can_not_give_raw_detections_is_refused_by_name():
    with pytest.raises(UserError, match="Sequential has no inference"):
        augmented(nn.Sequential())


@pytest.mark.parametrize("size", [(2, 3000), (3000, 2)])
def test_copies_of_a_very_thin_image_keep_a_pixel(size):
    copies = list(scaled_copies(np.zeros((*size, 3), np.uint8), T.ResizeShortestEdge(16, 100), [(), (-1,)]))
    assert [min(copy.image.shape[1:]) for copy in copies] == [1, 1]
    whole = torch.tensor([[0.0, 0.0, size[1], size[0]]])
    assert torch.allclose(copies[1].boxes_to_file(copies[1].boxes_from_file(whole)), whole)
