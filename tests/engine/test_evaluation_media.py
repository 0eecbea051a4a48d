"""What a training shows of its evaluations: of hand-made detections, and in two real runs."""

import json

import cv2
import numpy as np
import pytest
from detectron2.engine.train_loop import HookBase
from pycocotools import mask as mask_util
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from tests.engine.conftest import CONFIG
from tests.engine.small_training import train_small
from tests.evaluation.test_coco_evaluator import HEIGHT, WIDTH, bags, evaluated, item, perfect, predicted
from xray_lazy.data.datasets import DetectionDataset
from xray_lazy.data.image_reader import ImageReader
from xray_lazy.engine.hooks.evaluation import Evaluation
from xray_lazy.engine.hooks.evaluation_media import EvaluationMedia, chosen_records
from xray_lazy.engine.hooks.periodic_checkpoint import PeriodicCheckpoint
from xray_lazy.engine.media_maker import ImageMaker, precision_recall
from xray_lazy.engine.run import RunOptions, run
from xray_lazy.errors import UserError
from xray_lazy.evaluation.coco_evaluator import CocoEvaluator
from xray_lazy.tracking.writer import Writer

EVERY = 2  # iterations between two evaluations


class Kept(Writer):
    """A writer of one's own."""

    takes_media = True

    def __init__(self):
        self.media = {}

    def write(self):
        pass

    def write_media(self, media, iteration):
        self.media[iteration] = media


class KnownDetections(HookBase):
    """Lets a training evaluate what a model is known to have found, and gives it a writer."""

    def __init__(self, dataset, writer, suffixes=("",)):
        self.dataset, self.observers, self.writer, self.suffixes = dataset, [], writer, suffixes
        self.datasets, self.observers_of_all, self.reader = [dataset], [], ImageReader()

    def check(self):
        self.trainer.evaluate, self.trainer.writers = self, {"numbers": object(), "own": self.writer}
        self.trainer.evaluated_models = dict.fromkeys(self.suffixes, nn.Identity())

    def __call__(self, model, iteration, suffix=""):
        evaluator = CocoEvaluator(self.dataset)
        # a gun is found, the knife beside it is not, and in the last image there are two guns for one
        evaluator.process(self.dataset[:1], [predicted([(10, 10, 60, 70)], [0], [0.9])])
        evaluator.process(self.dataset[2:], [predicted([(20, 30, 50, 60), (60, 60, 90, 90)], [0, 0], [0.8, 0.7])])
        results = evaluator.evaluate()
        for observe in self.observers:
            observe([evaluator], suffix)
        return {f"{task}{suffix}": values for task, values in results.items()}


@pytest.fixture
def scans(tmp_path):
    """Three bags: a gun and a knife, nothing, a gun."""
    dataset = bags()
    records = [record | {"file_name": str(tmp_path / record["file_name"])} for record in dataset]
    for record in records:
        cv2.imwrite(record["file_name"], np.full((HEIGHT, WIDTH, 3), (10, 200, 250), np.uint8))
    return dataset.part(records, dataset.name)


def train(folder, dataset, iterations=4, suffixes=("",), writer=None, resume=False, stop_at=None, **options):
    """What the writer got, by iteration."""
    writer = writer or Kept()
    hooks = {
        "known": KnownDetections(dataset, writer, suffixes),
        "evaluation": Evaluation(EVERY),
        "media": EvaluationMedia(**{"period": EVERY, **options}),
        "checkpoint": PeriodicCheckpoint(EVERY),
    }
    train_small(folder, hooks, iterations, stop_at=stop_at, resume=resume)
    return writer.media


def test_a_writer_gets_images_charts_and_the_worst_images(tmp_path, scans):
    media = train(tmp_path / "run", scans, iterations=2)[1]
    assert list(media) == [f"media/{n}" for n in ("precision_recall", "confusion_matrix", "pictures", "worst_pictures")]
    images = media["media/pictures"].images
    assert [shown.file_name for shown in images] == ["17.png", "4.png", "90.png"]
    assert [(len(shown.truth), len(shown.detections)) for shown in images] == [(2, 1), (0, 0), (1, 2)]
    confusion = media["media/confusion_matrix"]
    assert confusion.names == ("gun", "knife", "bottle", "background")
    assert confusion.counts.tolist() == [[2, 0, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0], [1, 0, 0, 0]]
    assert confusion.drawn().ndim == 3
    worst = media["media/worst_pictures"]
    assert {shown.file_name for shown in worst.images} == {"17.png", "90.png"}  # in the empty bag there is no mistake
    assert (worst.found, sorted(zip(worst.missed, worst.false, strict=True))) == ([1, 1], [(0, 1), (1, 0)])
    assert list(media["media/precision_recall"].precisions) == ["gun", "knife"]


def test_the_same_images_are_shown_each_time(tmp_path, scans):
    shown = [media["media/pictures"].images for media in train(tmp_path / "run", scans, count=2).values()]
    assert [[image.file_name for image in images] for images in shown] == [["17.png", "4.png"]] * 2


def test_a_longer_period_shows_the_first_evaluation_after_it_and_the_last(tmp_path, scans):
    # evaluated after 2, 4, 6, 8 and 9 iterations
    assert list(train(tmp_path / "run", scans, iterations=9, period=3)) == [3, 5, 8]
    assert list(train(tmp_path / "end", scans, iterations=9, period=0)) == [8]


def test_a_resumed_run_shows_what_the_whole_run_would_have_shown(tmp_path, scans):
    folder = tmp_path / "run"
    first = train(folder, scans, iterations=12, period=6, stop_at=9)
    second = train(folder, scans, iterations=12, period=6, resume=True)
    assert [*first, *second] == [5, 11]


def test_averaged_weights_are_looked_at_and_say_so(tmp_path, scans):
    media = train(tmp_path / "run", scans, iterations=2, suffixes=("", "_EMA"))
    assert list(media) == [1] and "media/pictures_EMA" in media[1] and "media/pictures" not in media[1]


def test_without_a_writer_for_them_none_are_made(tmp_path, scans, monkeypatch):
    def fail(*_):
        raise AssertionError("work for nobody")

    monkeypatch.setattr(EvaluationMedia, "_media", fail)
    writer = Kept()
    writer.takes_media = False
    assert train(tmp_path / "run", scans, writer=writer) == {}


def test_a_image_that_is_gone_costs_only_the_images(tmp_path, scans, caplog):
    (tmp_path / "4.png").unlink()
    media = train(tmp_path / "run", scans, iterations=2)[1]
    assert list(media) == ["media/precision_recall", "media/confusion_matrix"]
    assert "no images of this evaluation" in caplog.text and "4.png" in caplog.text


def test_without_hotcoco_there_are_still_images_and_curves(tmp_path, scans, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "hotcoco", None)
    media = train(tmp_path / "run", scans, iterations=2)[1]
    assert media.keys() == {"media/precision_recall", "media/pictures", "media/worst_pictures"}
    assert not media["media/worst_pictures"].images


def test_chosen_images_come_first(tmp_path, scans):
    media = train(tmp_path / "run", scans, iterations=2, chosen=["90.png", 4], count=2)[1]
    assert [shown.file_name for shown in media["media/pictures"].images] == ["90.png", "4.png", "17.png"]


def test_a_chosen_image_that_is_not_there_is_told_before_training(tmp_path, scans):
    with pytest.raises(UserError, match=r"chosen: of .91.png., xray_test_val has none") as raised:
        train(tmp_path / "run", scans, chosen=["91.png"])
    assert "90.png" in raised.value.fix


def test_a_name_that_two_images_have_is_refused():
    records = [{"image_id": n, "file_name": f"set_{n}/bag.png", "annotations": []} for n in (1, 2)]
    dataset = DetectionDataset(records, "both", ("gun",), (1,))
    with pytest.raises(UserError, match=r"of .bag\.png., both has 2"):
        chosen_records([dataset], ["bag.png"])
    assert chosen_records([dataset], [2]) == [records[1]]


def test_a_large_scan_is_shown_smaller_with_all_that_is_on_it(scans):
    thin_wire = item(7, 1, (100, 20, 102, 110))
    first, *others = scans
    first["annotations"][1:] = [thin_wire, item(8, 0, (120, 0, 200, 120), crowd=1)]
    scans = scans.part([first, *others], scans.name)
    evaluator, _ = evaluated(scans, [predicted([(10, 20, 60, 80), (0, 0, 50, 50)], [0, 1], [0.75, 0.25])] * 3)
    shown = ImageMaker(evaluator, [17], score_threshold=0.5, long_edge=50)(17)
    assert shown.image.shape == (30, 50, 3)
    assert shown.image[0, 0].tolist() == [250, 200, 10]  # RGB
    assert [(i.class_id, i.box, i.is_crowd) for i in shown.truth] == [
        (0, (2.5, 2.5, 15, 17.5), False),
        (1, (25, 5, 25.5, 27.5), False),
        (0, (30, 0, 50, 30), True),
    ]
    ((gun),) = shown.detections  # the other one is below the threshold
    assert (gun.class_id, gun.box, gun.score) == (0, (2.5, 5, 15, 20), 0.75)
    assert [tuple(i.mask["size"]) for i in shown.truth] == [(30, 50)] * 3
    assert mask_util.area(gun.mask) == pytest.approx(12.5 * 15, rel=0.1)
    assert mask_util.area(shown.truth[1].mask) >= 20  # two pixels wide, and still there at a quarter of the size
    assert shown.drawn().dtype == np.uint8


def test_curves_are_of_classes_that_have_instances(scans):
    evaluator, _ = evaluated(scans, [perfect(record) for record in scans])
    curves = precision_recall(evaluator.metrics["segm"])
    assert curves.instances == {"gun": 2, "knife": 1} and curves.precisions.keys() == {"gun", "knife"}
    assert (curves.precisions["gun"] == 1).all() and curves.scores["gun"] == pytest.approx(np.full(101, 0.9))


def test_a_run_shows_its_evaluations_in_tensorboard_and_forgets_the_detections(output):
    folder, overrides = output
    few = [
        "hooks.evaluation_media.count=2",
        "hooks.evaluation_media.worst=1",
        "train.max_iter=2",
        "train.eval_period=1",
    ]
    forgotten = f"+hooks.forgotten={{_target_: {__name__}.AreForgotten}}"
    run(RunOptions(CONFIG, [*overrides, *few, forgotten, "~hooks.prediction_pictures"]))
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    for tag in ("pictures/01_bag_0", "pictures/02_bag_4", "worst_pictures/1", "confusion_matrix", "screening_roc"):
        assert [event.step for event in events.Images(f"val/{tag}")] == [0, 1], tag
    assert {"val/precision_recall/gun", "val/precision_recall/knife"} <= set(events.Tags()["tensors"])
    sets = json.loads((folder / "run.json").read_text())["datasets"]
    assert {name: (facts["name"], facts["pictures"]) for name, facts in sets.items()} == {
        "train": ("tiny", 8),
        "test": ("tiny", 8),
    }
    assert all(len(digest) == 64 for facts in sets.values() for digest in facts["files"].values())


class AreForgotten(HookBase):
    """The evaluators don't hold the set's detections while training goes on."""

    def after_step(self):
        (evaluator,) = self.trainer.evaluate.sets[0].evaluators
        assert not evaluator.predictions and not evaluator.metrics


@pytest.mark.slow
def test_wandb_gets_them_once_from_data_parallel_training(output):
    folder, overrides = output
    quiet = ["writers.wandb.mode=offline", "~writers.tensorboard", "~hooks.prediction_pictures"]
    few = ["hooks.evaluation_media.count=3", "train.max_iter=1"]
    run(RunOptions(CONFIG, [*overrides, *quiet, *few], num_processes=2))
    (files,) = folder.glob("wandb/offline-run-*/files")
    assert len(list(files.glob("media/images/val/pictures_*.jpg"))) == 3
    assert len(list(files.glob("media/table/val/worst_pictures_*.json"))) == 1
