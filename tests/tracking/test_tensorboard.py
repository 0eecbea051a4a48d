"""TensorBoard's files, read back with TensorBoard's own reader."""

import subprocess
import sys

import numpy as np
import torch
from detectron2.utils.events import EventStorage
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from xray_lazy.tracking.background import Background
from xray_lazy.tracking.logged_names import LoggedNames
from xray_lazy.tracking.tensorboard import TensorboardWriter


def read(folder) -> EventAccumulator:
    return EventAccumulator(str(folder)).Reload()


def record(folder, run, iterations: range, value: float) -> None:
    writer = TensorboardWriter(str(folder))
    assert writer.start(run) == {}
    with EventStorage(iterations.start) as storage:
        for storage.iter in iterations:
            storage.put_scalar("total_loss", value)
            writer.write()
    writer.close()


def test_scalars_are_there_and_an_evaluation_of_the_same_iteration_too(tmp_path, run):
    writer = TensorboardWriter(str(tmp_path))
    writer.start(run)
    with EventStorage(9) as storage:
        storage.put_scalar("total_loss", 2.5)
        writer.write()
        storage.put_scalars(smoothing_hint=False, **{"bbox/AP": 36.5, "bbox/AP-gun": float("nan")})
        writer.write()
    writer.close()
    events = read(tmp_path)
    assert [(e.step, e.value) for e in events.Scalars("total_loss")] == [(9, 2.5)]
    assert [(e.step, e.value) for e in events.Scalars("bbox/AP")] == [(9, 36.5)]
    assert np.isnan(events.Scalars("bbox/AP-gun")[0].value)


def test_scalars_have_the_names_of_the_table_and_raw_values_beside_the_smoothed_ones(tmp_path, run):
    names = LoggedNames([["*", "train/*"], ["raw/**", "train_raw/**"], ["*/AP", "val/*_mAP", 0.01]])
    writer = TensorboardWriter(str(tmp_path), names=names, raw=["*loss*"])
    writer.start(run)
    with EventStorage() as storage:
        for storage.iter, value in enumerate([1.0, 2.0, 6.0]):
            storage.put_scalar("total_loss", value)
        storage.put_scalar("bbox/AP", 36.5, smoothing_hint=False)
        writer.write()
    writer.close()
    events = read(tmp_path)
    values = {name: [(e.step, round(e.value, 4)) for e in events.Scalars(name)] for name in events.Tags()["scalars"]}
    assert values == {
        "train/total_loss": [(2, 2.0)],
        "train_raw/total_loss": [(2, 6.0)],
        "val/bbox_mAP": [(2, 0.365)],
    }


def test_what_a_resumed_run_does_again_replaces_what_was_lost(tmp_path, run):
    record(tmp_path, run, range(10), value=1.0)
    run.start_iteration, run.resumed = 6, True
    record(tmp_path, run, range(6, 12), value=2.0)
    found = [(e.step, e.value) for e in read(tmp_path).Scalars("total_loss")]
    assert found == [(i, 1.0) for i in range(6)] + [(i, 2.0) for i in range(6, 12)]


def test_images_and_histograms_are_taken_from_the_storage_once(tmp_path, run):
    writer = TensorboardWriter(str(tmp_path))
    writer.start(run)
    with EventStorage(4) as storage:
        storage.put_image("bags", torch.zeros(3, 8, 12, dtype=torch.uint8))
        storage.put_histogram("scores", torch.linspace(0, 1, 20), bins=5)
        writer.write()
        writer.write()
    writer.close()
    events = read(tmp_path)
    (image,) = events.Images("bags")
    assert (image.step, image.height, image.width) == (4, 8, 12)
    assert len(events.Histograms("scores")) == 1


WITHOUT_TENSORBOARD = """
import sys
sys.modules["tensorboard"] = None
from detectron2.utils.events import EventStorage
from xray_lazy.tracking.tensorboard import TensorboardWriter
from types import SimpleNamespace
writer = TensorboardWriter(sys.argv[1])
writer.start(SimpleNamespace(start_iteration=0))
with EventStorage() as storage:
    storage.put_scalar("loss", 1.0)
    writer.write()
    writer.write()
writer.close()
"""


def test_without_the_package_one_warning_and_training_goes_on(tmp_path):
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT_TENSORBOARD, str(tmp_path / "tensorboard")], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("pip install tensorboard") == 1
    assert not (tmp_path / "tensorboard").exists()


def test_an_event_file_that_is_deleted_is_told_and_a_new_one_begun(tmp_path, run, caplog):
    writer = TensorboardWriter(str(tmp_path))
    writer.start(run)
    with EventStorage() as storage:
        for storage.iter in range(3):
            storage.put_scalar("total_loss", 1.0)
            writer.write()
            if storage.iter == 0:
                (file,) = tmp_path.iterdir()  # the folder stays
                file.unlink()
    writer.close()
    writer.close()
    assert caplog.text.count("was deleted: TensorBoard has the numbers from here on only") == 1
    assert [event.step for event in read(tmp_path).Scalars("total_loss")] == [1, 2]


def test_what_is_closed_takes_no_work_that_would_be_waited_for():
    background = Background("test")
    assert background.do(lambda: None) and background.wait()
    background.close()
    assert not background.do(lambda: None) and not background.wait()
