"""What the output folder of a run tells without its training: checkpoints, completeness, evaluations."""

import json
import os

import pytest

from xray_lazy.errors import UserError
from xray_lazy.run_folder import RunFolder, best_evaluation, checkpoint_name, iteration_of, number_or_none


def touch(folder, *names):
    for name in names:
        (folder / name).touch()


def write_evaluation(folder, name, **tasks):
    path = folder / "evaluation" / name
    path.mkdir(parents=True)
    content = {"pictures": 3, **{task: {"AP": value} for task, value in tasks.items()}}
    (path / "metrics.json").write_text(json.dumps(content))


def test_a_folder_that_is_not_there_holds_nothing(tmp_path):
    folder = RunFolder(tmp_path / "none")
    assert not (folder.holds_run() or folder.is_complete() or folder.is_under_way() or folder.has_ended())
    assert folder.newest() == "" and folder.resumable() == folder.weights() == folder.own_files() == []
    assert folder.read_metrics() == folder.evaluations() == []


def test_the_checkpoint_that_is_named_goes_on_first_and_the_best_is_used_first(tmp_path):
    touch(tmp_path, "model_0000009.pth", "model_0000019.pth", "model_final.pth", "model_best.pth", "model_7.pth")
    folder = RunFolder(tmp_path)
    names = ["model_0000019.pth", "model_0000009.pth", "model_final.pth"]
    assert [path.name for path in folder.resumable()] == names
    folder.last.write_text("model_0000009.pth\n")
    assert [path.name for path in folder.resumable()] == [names[1], names[0], names[2]]
    assert [path.name for path in folder.weights()] == ["model_best.pth", "model_final.pth", *names[:2]]


@pytest.mark.parametrize("name", ["../other/model_0000019.pth", "", "\udcff.pth"])
def test_a_checkpoint_of_another_folder_is_not_gone_on_from(tmp_path, name):
    touch(tmp_path, "model_0000009.pth")
    (tmp_path.parent / "other").mkdir(exist_ok=True)
    touch(tmp_path.parent / "other", "model_0000019.pth")
    folder = RunFolder(tmp_path)
    for written in (name, str(tmp_path.parent / name) if name else "."):
        folder.last.write_bytes(written.encode(errors="surrogateescape"))
        assert [path.name for path in folder.resumable()] == ["model_0000009.pth"]
        assert folder.resumable()[0].parent == tmp_path


@pytest.mark.parametrize(
    ("newest", "is_complete", "is_under_way"),
    [(None, True, False), ("model_final.pth", True, False), ("model_0000019.pth", False, True)],
    ids=["lost", "final", "made longer"],
)
def test_a_run_is_complete_where_nothing_was_saved_after_the_final_checkpoint(
    tmp_path, newest, is_complete, is_under_way
):
    folder = RunFolder(tmp_path)
    touch(tmp_path, "model_final.pth", "model_0000019.pth")
    if newest:
        folder.last.write_text(newest)
    assert (folder.is_complete(), folder.is_under_way()) == (is_complete, is_under_way)
    folder.final.unlink()
    assert not folder.is_complete()


def test_a_run_that_was_started_once_more_has_not_ended(tmp_path):
    folder = RunFolder(tmp_path)
    touch(tmp_path, "model_final.pth", "run.json")
    for record, has_ended in ((5, True), (15, False)):
        os.utime(folder.final, (10, 10))
        os.utime(folder.record, (record, record))
        assert folder.has_ended() == has_ended


@pytest.mark.parametrize("name", ["/proc/run", "/proc/runs/run"])
def test_a_place_where_nothing_can_be_written_is_no_output_folder(name):
    with pytest.raises(UserError, match=f"no output folder {name}: nothing can be written into /proc \\("):
        RunFolder(name).check()


def test_names_of_periodic_checkpoints_tell_their_iteration():
    assert iteration_of(checkpoint_name(12)) == iteration_of("model_0000012.pth") == 12
    assert [iteration_of(name) for name in ("model_final", "model_12.pth", "model_best_0000012.pth")] == [None] * 3
    assert checkpoint_name(12, "model_best") == "model_best_0000012"


def test_evaluations_come_in_the_order_of_training_and_a_damaged_one_has_no_metrics(tmp_path):
    write_evaluation(tmp_path, "val/iter_19", segm=30.0, bbox=40.0)
    write_evaluation(tmp_path, "val/iter_9_EMA", segm=None, bbox=20.0)
    write_evaluation(tmp_path, "val/iter_9", bbox=10.0)
    (tmp_path / "evaluation/val/iter_19/metrics.json").write_text('{"segm": ')
    (tmp_path / "evaluation/val/notes").mkdir()
    first, averaged, damaged = RunFolder(tmp_path).evaluations()
    assert [e.name for e in (first, averaged, damaged)] == ["val/iter_9", "val/iter_9_EMA", "val/iter_19"]
    assert averaged.metrics == {"segm_EMA/AP": None, "bbox_EMA/AP": 20.0} and averaged.images == 3
    assert (damaged.metrics, first.fault) == ({}, "") and "JSONDecodeError" in damaged.fault


def test_the_best_evaluation_has_the_highest_mask_ap_else_box_ap_or_is_the_newest(tmp_path):
    for iteration, segm in ((9, 20.0), (19, 30.0), (29, 30.0), (39, None)):
        write_evaluation(tmp_path, f"val/iter_{iteration}", segm=segm, bbox=float(iteration))
    found = RunFolder(tmp_path).evaluations()
    assert best_evaluation(found[:3]) is found[1]
    assert best_evaluation(found, "bbox/AP") is found[3]
    assert best_evaluation(found, "segm/AR") is found[3]
    assert best_evaluation([]) is None


def test_own_files_leave_out_what_a_person_put_there(tmp_path):
    own = ["metrics.json", "log.txt", "log.txt.rank1", "best_loss.json", "model_best_loss.pth", "config.yaml"]
    touch(tmp_path, *own, "notes.txt", "model_mine.pth")
    files = [path.name for path in RunFolder(tmp_path).own_files()]
    assert sorted(files) == sorted(own) and files[-1] == "config.yaml"


@pytest.mark.parametrize("value", [10**400, -(10**400), float("inf"), float("nan"), True, "1", None])
def test_what_no_float_holds_is_no_number(value):
    assert number_or_none(value) is None
