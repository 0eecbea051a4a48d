"""Real runs: who writes what, when, and under which names."""

import os
import re

import offline_run_file as recorded
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.data.coco_sets import write_set
from tests.engine.conftest import CONFIG
from tests.engine.quick_processes import run_group
from xray_lazy.engine.run import RunOptions, run
from xray_lazy.run_folder import read_json_lines

AXES = {"iteration", "epoch", "images_seen"}


def train(folder, overrides):
    run(RunOptions(CONFIG, [f"train.output_dir={folder}", "train.device=cpu", *overrides]))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two runs by their table, the first one of two processes; evaluations are after the iterations 3 and 5."""
    folder = tmp_path_factory.mktemp("runs")
    write_set(folder / "set", count=8)
    common = ["train.max_iter=6", "train.eval_period=4", "~hooks.prediction_pictures", "~hooks.evaluation_media"]
    common += ["writers.wandb.mode=offline", "writers.tensorboard.period=1"]
    grouped = ["writers.console.period=2", "writers.json.period=5", "writers.wandb.period=0"]
    grouped += ["hooks.ema.decay=0.5", "hooks.validation_loss.period=4"]
    mmdetection = ["train.tracking.names=mmdetection", "train.tracking.raw=[]", "train.log_period=0.5 epochs"]
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("WANDB_")]:
            patch.delenv(name)
        patch.setenv("TINY_SET", str(folder / "set"))
        patch.setenv("HOME", str(folder))
        run_group(train, str(folder / "grouped"), [*common, *grouped], processes=2, log=folder / "log.txt")
        train(folder / "mmdetection", [*common, *mmdetection])
    return folder


def wandb_rows(folder) -> list[dict]:
    return recorded.history(recorded.read_finished(folder / "wandb"))


def tensorboard_scalars(folder) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    return {name: [(e.step, e.value) for e in events.Scalars(name)] for name in events.Tags()["scalars"]}


def test_each_writer_writes_in_its_period_after_evaluations_and_at_the_end(trained):
    folder = trained / "grouped"
    console = re.findall(r"\[(\d)/6\]", (folder / "log.txt").read_text())
    assert console == ["2", "4", "6"]
    assert [line["iteration"] for line in read_json_lines(folder / "metrics.json")] == [3, 4, 5]
    assert [step for step, _ in tensorboard_scalars(folder)["train/total_loss"]] == [0, 1, 2, 3, 4, 5]
    assert [row["iteration"] for row in wandb_rows(folder)] == [3, 5]


def test_a_period_in_epochs_is_that_of_all_writers_without_one_of_their_own(trained):
    folder = trained / "mmdetection"  # 8 images in batches of 2: an epoch has 4 iterations
    assert re.findall(r"\[(\d)/6\]", (folder / "log.txt").read_text()) == ["2", "4", "6"]
    assert [line["iteration"] for line in read_json_lines(folder / "metrics.json")] == [1, 3, 5]
    assert [row["iteration"] for row in wandb_rows(folder)] == [1, 3, 5]


def test_only_the_first_process_writes(trained):
    folder = trained / "grouped"
    assert len(list((folder / "tensorboard").iterdir())) == len(list(folder.rglob("*.wandb"))) == 1
    assert not re.search(r"\[\d/6\]|W&B", (folder / "log.txt.rank1").read_text())


def test_tensorboard_and_wandb_have_the_same_scalars_and_each_row_of_wandb_all_axes(trained):
    for folder in (trained / "grouped", trained / "mmdetection"):
        scalars, rows = tensorboard_scalars(folder), wandb_rows(folder)
        assert all(row.keys() >= AXES for row in rows)
        in_wandb = {(name, row["iteration"]): value for row in rows for name, value in row.items()}
        at = {row["iteration"] for row in rows}
        in_tensorboard = {(n, i): v for n, values in scalars.items() for i, v in values if i in at and v == v}
        assert in_wandb.keys() - in_tensorboard.keys() == {("iteration", i) for i in at}
        assert in_tensorboard == pytest.approx({key: in_wandb[key] for key in in_tensorboard}, rel=1e-5)


def test_the_default_names_are_groups_with_validation_beside_training(trained):
    folder = trained / "grouped"
    last = wandb_rows(folder)[-1]
    groups = {name.partition("/")[0] for name in last} - AXES
    assert groups == {"train", "train_raw", "val", "val_classes", "val_EMA", "time", "lr"}
    assert {"val/bbox/AP", "val/bbox_EMA/AP", "val/segm/AP50", "val/total_loss", "val_EMA/total_loss"} <= last.keys()
    assert {"train/gradient_norm", "train_raw/gradient_norm", "train_raw/loss_mask", "time/data"} <= last.keys()
    losses = [line["total_loss"] for line in read_json_lines(folder / "metrics.json")]
    steps = dict(tensorboard_scalars(folder)["train_raw/total_loss"])
    medians = dict(tensorboard_scalars(folder)["train/total_loss"])
    assert medians[2] == pytest.approx(sorted(steps[i] for i in range(3))[1])
    assert losses[-1] == pytest.approx(steps[5])  # the tiny config's metrics.json has a window of 1


def test_the_numbers_of_mmdetection_are_those_of_metrics_json_in_its_units(trained):
    folder = trained / "mmdetection"
    line, row = read_json_lines(folder / "metrics.json")[-1], wandb_rows(folder)[-1]
    assert line["bbox/AP"] is not None
    for event, name, scale in [
        ("bbox/AP", "val/bbox_mAP", 0.01),
        ("segm/AP50", "val/segm_mAP_50", 0.01),
        ("lr", "learning_rate", 1),
        ("fast_rcnn/cls_accuracy", "train/acc", None),
    ]:
        assert event in line and name in row
        if scale:
            assert row[name] == pytest.approx(line[event] * scale)
    assert not any(name.startswith(("train_raw", "event/")) for name in row)
    summary = recorded.summary(recorded.read_finished(folder / "wandb"))
    assert summary["val/bbox_mAP"] == row["val/bbox_mAP"]
    assert summary["best/val/bbox_mAP"] == max(
        row["val/bbox_mAP"] for row in wandb_rows(folder) if "val/bbox_mAP" in row
    )
