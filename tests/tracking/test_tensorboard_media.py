"""Images and curves in TensorBoard's files."""

import threading

import cv2
import numpy as np
import pytest
from detectron2.utils.events import EventStorage
from shown_media import shown_media
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util import tensor_util

from xray_lazy.tracking.logged_names import LoggedNames
from xray_lazy.tracking.media import ConfusionMatrix
from xray_lazy.tracking.tensorboard import TensorboardWriter


@pytest.fixture
def events(tmp_path, run):
    writer = TensorboardWriter(str(tmp_path), names=LoggedNames([["media/*", "val/*"]]))
    assert not writer.takes_media
    writer.start(run)
    assert writer.takes_media
    with EventStorage(19):
        writer.write_media(shown_media(), 19)
    writer.close()
    return EventAccumulator(str(tmp_path)).Reload()


def test_each_image_has_a_tag_of_its_own(events):
    assert set(events.Tags()["images"]) == {
        "val/pictures/01_bag_1",
        "val/pictures/02_bag_2",
        "val/worst_pictures/1",
        "val/confusion_matrix",
        "val/screening_roc",
    }
    (event,) = events.Images("val/pictures/02_bag_2")
    assert (event.step, event.width, event.height) == (19, 90, 30)
    image = cv2.imdecode(np.frombuffer(event.encoded_image_string, np.uint8), cv2.IMREAD_COLOR)
    assert image.shape == (30, 90, 3) and abs(image.mean() - 100) < 2
    assert event.encoded_image_string.startswith(b"\xff\xd8")  # a JPEG


def test_a_curve_has_precision_recall_and_counts_at_each_threshold(events):
    (event,) = events.Tensors("val/precision_recall/gun")
    values = tensor_util.make_ndarray(event.tensor_proto)
    assert (event.step, values.shape) == (19, (6, 101))
    true, false, _, missed, precision, recall = values
    # of 8 guns a quarter is found from a score of 0.9 on, half of them from 0.4 on
    assert recall == pytest.approx(np.repeat([0.5, 0.25, 0.0], [41, 50, 10]))
    assert true == pytest.approx(recall * 8) and true + missed == pytest.approx(np.full(101, 8.0))
    assert precision == pytest.approx(np.ones(101)) and false == pytest.approx(np.zeros(101))
    plugin = events.SummaryMetadata("val/precision_recall/gun").plugin_data
    assert plugin.plugin_name == "pr_curves"


def test_training_does_not_wait_until_images_are_drawn_and_the_end_of_the_run_does(tmp_path, run):
    is_training = threading.Event()

    def drawn():
        assert is_training.wait(20)
        return np.zeros((30, 90, 3), np.uint8)

    writer = TensorboardWriter(str(tmp_path))
    writer.start(run)
    writer.write_media({"matrix": ConfusionMatrix(np.eye(2), ("gun", "background"), drawn)}, 19)
    is_training.set()
    writer.close()
    assert EventAccumulator(str(tmp_path)).Reload().Tags()["images"] == ["matrix"]


def test_a_image_that_cannot_be_drawn_is_a_warning_and_later_ones_are_there(tmp_path, run, caplog):
    def fail():
        raise MemoryError("no room")

    writer = TensorboardWriter(str(tmp_path))
    writer.start(run)
    writer.write_media({"matrix": ConfusionMatrix(np.eye(2), ("gun", "background"), fail)}, 19)
    writer.write_media(shown_media(), 39)
    writer.close()
    assert "no images of iteration 19: no room" in caplog.text
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [event.step for event in events.Images("media/confusion_matrix")] == [39]
