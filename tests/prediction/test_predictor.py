"""The predictor beside the plain model, and its batches."""

import copy
import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import transforms as T
from detectron2.structures import Instances
from torch import nn

from xray_lazy.data.image_files.image_bytes import MissingImage
from xray_lazy.data.image_files.image_file import read_image
from xray_lazy.engine.trained_model import load_trained_model
from xray_lazy.errors import UserError
from xray_lazy.prediction.detector import TrainedDetector, load_detector
from xray_lazy.prediction.predictor import Predictor

FIELDS = {"pred_boxes", "scores", "pred_classes", "pred_masks"}


@pytest.fixture(scope="module")
def predictor(run_folder):
    return Predictor.of(run_folder, device="cpu", batch_size=3)


@pytest.fixture(scope="module")
def plainly(run_folder):
    """What detectron2's DefaultPredictor does, with the same weights."""
    model = load_trained_model(run_folder, device="cpu").model
    resize = T.ResizeShortestEdge(48, 64)

    def predict(image: np.ndarray) -> Instances:
        scaled = resize.get_transform(image).apply_image(image)
        scaled = torch.as_tensor(scaled.astype("float32").transpose(2, 0, 1))
        with torch.no_grad():
            return model([{"image": scaled, "height": image.shape[0], "width": image.shape[1]}])[0]["instances"]

    return predict


def assert_same(found: Instances, expected: Instances, box_limit=1e-2):
    assert found.image_size == expected.image_size and set(found.get_fields()) == FIELDS
    assert len(found) == len(expected) > 0
    torch.testing.assert_close(found.scores, expected.scores, rtol=0, atol=1e-4)
    torch.testing.assert_close(found.pred_boxes.tensor, expected.pred_boxes.tensor, rtol=0, atol=box_limit)
    assert torch.equal(found.pred_classes, expected.pred_classes)
    masks = found.pred_masks.bitmaps()
    assert masks.shape == expected.pred_masks.shape
    # a mask's edge may be a pixel off where rounding moved a box
    assert (masks != expected.pred_masks.numpy()).mean() < 1e-3


def turned(image):
    return np.ascontiguousarray(image.transpose(1, 0, 2))


def test_it_finds_what_the_plain_model_finds(predictor, plainly, images):
    for path in images[:3]:
        # at the network's size, nothing is resized
        image = cv2.resize(read_image(path), (64, 48))
        assert_same(predictor(image), plainly(image))


def test_a_run_folder_is_one_beside_a_json_of_its_name_too(run_folder, tmp_path):
    run = tmp_path / "smith.onnx"  # nor does the ending make an exported model of a folder
    run.symlink_to(run_folder, target_is_directory=True)
    (tmp_path / "smith.onnx.json").write_text("{}")
    assert isinstance(load_detector(run), TrainedDetector)


def test_results_are_in_the_pixels_of_images_that_are_resized(predictor, plainly, images):
    image = cv2.resize(read_image(images[0]), (640, 480), interpolation=cv2.INTER_CUBIC)
    found, expected = predictor(image), plainly(image)
    assert found.image_size == (480, 640) and found.pred_masks.bitmaps().shape[1:] == (480, 640)
    # images are resized by another program, whose values differ by 1 at most
    torch.testing.assert_close(found.scores[:5], expected.scores[:5], rtol=0, atol=1e-3)


def test_images_of_many_sizes_are_found_in_as_if_alone_and_come_in_order(predictor, images):
    some = [read_image(path) for path in images]
    mixed = [turned(p) if n % 3 == 1 else cv2.resize(p, (90, 70)) if n % 3 == 2 else p for n, p in enumerate(some)]
    together, alone = predictor.predict(mixed), [predictor(image) for image in mixed]
    for image, one, other in zip(mixed, together, alone, strict=True):
        assert one.image_size == image.shape[:2]
        torch.testing.assert_close(one.scores, other.scores, rtol=0, atol=1e-5)
        torch.testing.assert_close(one.pred_boxes.tensor, other.pred_boxes.tensor, rtol=0, atol=1e-2)


def test_batches_are_as_large_as_asked_for_and_of_one_size(run_folder, images):
    predictor = Predictor.of(run_folder, device="cpu", batch_size=3)
    batches, detect = [], predictor.detector.detect

    def counting(inputs, sizes, threshold):
        batches.append([tuple(one.shape[1:]) for one in inputs])
        return detect(inputs, sizes, threshold)

    predictor.detector.detect = counting
    image = read_image(images[0])
    predictor.predict([image] * 4 + [image[:24]] * 2)
    assert sorted(map(len, batches)) == [1, 2, 3] and all(len(set(batch)) == 1 for batch in batches)


def test_a_stream_reads_no_further_than_six_batches_ahead(predictor, images):
    taken = []

    def endless():
        while True:
            taken.append(1)
            yield images[0]

    stream = predictor.stream(endless())
    next(stream)
    assert len(taken) <= 6 * predictor.batch_size
    stream.close()


def test_a_image_that_cannot_be_read_is_told_in_its_place(predictor, images, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG broken")
    sources = [images[0], broken, tmp_path / "missing.png", images[1]]
    predictions = list(predictor.stream(sources))
    assert [p.source for p in predictions] == sources
    assert [p.problem is None for p in predictions] == [True, False, False, True]
    assert str(broken) in predictions[1].problem.message
    assert predictions[1].instances is None and predictions[3].instances is not None
    with pytest.raises(MissingImage):
        predictor.predict([images[0], tmp_path / "missing.png"])


class FailsForWideOnes(nn.Module):
    """A model with a fault that some images bring out."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def inference(self, batch, do_postprocess=True):
        if any(entry["width"] == 333 for entry in batch):
            raise IndexError("a fault of somebody's model")
        return self.model.inference(batch, do_postprocess=do_postprocess)


def test_a_image_that_the_model_fails_at_is_told_in_its_place_and_others_of_its_batch_are_found_in(
    run_folder, images, tmp_path
):
    trained = load_trained_model(run_folder, device="cpu")
    predictor = Predictor(
        TrainedDetector(dataclasses.replace(trained, model=FailsForWideOnes(trained.model)), plain=True)
    )
    wide = tmp_path / "wide.png"
    cv2.imwrite(str(wide), cv2.resize(read_image(images[0]), (333, 250)))
    first, second, third = predictor.stream([images[0], wide, images[1]])
    assert (first.problem, third.problem) == (None, None) and len(first.instances) and len(third.instances)
    assert "wide.png" in second.problem.message and "IndexError: a fault" in second.problem.message
    assert second.instances is None


def test_the_threshold_leaves_out_the_rest(run_folder, predictor, images):
    everything = predictor(images[0])
    limit = float(everything.scores[len(everything) // 2])
    kept = Predictor.of(run_folder, device="cpu", score_threshold=limit)(images[0])
    assert len(kept) == int((everything.scores >= limit).sum()) == len(kept.pred_masks)
    assert len(Predictor.of(run_folder, device="cpu", score_threshold=1.0)(images[0])) == 0


@pytest.mark.parametrize("threshold", [70, -0.1, float("nan"), np.float32(1.5), "0.5", None])
def test_a_threshold_that_no_score_has_is_refused(predictor, threshold):
    with pytest.raises(UserError, match="the threshold is"):
        Predictor(predictor.detector, score_threshold=threshold)


@pytest.mark.parametrize(
    "source", [np.zeros((8, 8)), np.zeros((8, 8, 3)), np.zeros((0, 8, 3), np.uint8), None, 3], ids=repr
)
def test_what_is_no_image_is_told_in_words(predictor, images, source):
    problem, seen = predictor.stream([source, images[0]])
    assert "is no image" in problem.problem.message and seen.problem is None


def test_results_are_ordinary_tensors(predictor, images):
    found = predictor(images[0])
    found.scores += 1
    found.pred_boxes.scale(2, 2)
    assert found.scores.min() > 1


def test_rgb_models_get_rgb(run_folder, images):
    image = read_image(images[0])
    bgr = load_detector(run_folder, device="cpu").prepare(image)
    override = ["dataloader.test.mapper.image_format=RGB"]
    rgb = load_detector(run_folder, overrides=override, device="cpu").prepare(image)
    assert torch.equal(rgb, bgr.flip(0)) and not torch.equal(rgb, bgr)


class WholeOutputs(torch.nn.Module):
    """A model whose outputs are in the image already."""

    def __init__(self, model):
        super().__init__()
        self.inner = model

    def forward(self, batch):
        return self.inner(batch)


def test_a_model_that_only_gives_whole_masks_works_too(run_folder, images):
    trained = load_trained_model(run_folder, device="cpu")
    whole = copy.copy(trained)
    object.__setattr__(whole, "model", WholeOutputs(copy.deepcopy(trained.model)))
    expected = Predictor(TrainedDetector(trained))(images[0])
    found = Predictor(TrainedDetector(whole))(images[0])
    torch.testing.assert_close(found.pred_boxes.tensor, expected.pred_boxes.tensor, rtol=0, atol=1e-2)
    assert (found.pred_masks.bitmaps() != expected.pred_masks.bitmaps()).mean() < 1e-3


def test_one_source_in_place_of_several_is_refused(predictor, images):
    for source in ("bag.png", Path("bag.png"), images[0]):
        with pytest.raises(UserError, match="takes several sources"):
            next(predictor.stream(source))


@pytest.mark.parametrize("settings", [{"batch_size": 1.5}, {"batch_size": "4"}, {"threads": True}, {"threads": 0}])
def test_numbers_that_are_no_whole_ones_are_refused(run_folder, settings):
    with pytest.raises(UserError, match="give a whole number, 1 or more"):
        Predictor.of(run_folder, device="cpu", **settings)


@pytest.mark.parametrize("source", [None, 5])
def test_what_is_no_path_is_refused(source):
    with pytest.raises(UserError, match="is no path of a model"):
        Predictor.of(source)


def test_faults_of_the_person_are_named(run_folder, tmp_path):
    with pytest.raises(UserError, match="there is no model"):
        load_detector(tmp_path / "nothing")
    with pytest.raises(UserError, match="TestLoader needs the argument mapper"):
        load_detector(run_folder, overrides=["~dataloader.test.mapper"], device="cpu")
    with pytest.raises(UserError, match="1 or more"):
        Predictor.of(run_folder, device="cpu", batch_size=0)
