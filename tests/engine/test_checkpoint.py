"""Checkpoints: whole or absent, and clear about what did not fit."""

import contextlib
import io
import logging
import pickle
import re

import pytest
import torch
from torch import nn

from xray_lazy.engine import checkpoint
from xray_lazy.engine.checkpoint import Checkpointer, load_trained_weights
from xray_lazy.errors import RunFailure, UserError
from xray_lazy.run_folder import RunFolder
from xray_lazy.utils.atomic_file import atomic_writer


def make_model(classes=3):
    return nn.ModuleDict({"body": nn.Linear(4, 4), "cls_score": nn.Linear(4, classes)})


def test_a_head_for_another_number_of_classes_is_one_line_and_the_rest_is_loaded(tmp_path, caplog):
    source, target = make_model(classes=81), make_model(classes=3)
    Checkpointer(source, tmp_path).save("weights")
    before = target["cls_score"].weight.clone()
    caplog.clear()
    Checkpointer(target).load(str(tmp_path / "weights.pth"))
    warnings = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1 and re.search(r"cls_score\.weight 81x4 -> 3x4", warnings[0])
    assert torch.equal(target["body"].weight, source["body"].weight)
    assert torch.equal(target["cls_score"].weight, before)


def test_a_model_zoo_pickle_of_arrays_is_loaded(tmp_path):
    source, target = make_model(), make_model()
    arrays = {name: value.numpy() for name, value in source.state_dict().items()}
    (tmp_path / "model_final.pkl").write_bytes(pickle.dumps({"model": arrays, "__author__": "Detectron2 Model Zoo"}))
    Checkpointer(target).load(str(tmp_path / "model_final.pkl"))
    assert all(torch.equal(value, source.state_dict()[name]) for name, value in target.state_dict().items())


def test_weights_of_another_model_are_an_error(tmp_path):
    Checkpointer(nn.ModuleDict({"other": nn.Linear(2, 2)}), tmp_path).save("weights")
    with pytest.raises(UserError, match="none of this model's weights"):
        Checkpointer(make_model()).load(str(tmp_path / "weights.pth"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda model: model.update({"cls_score": nn.Linear(4, 81)}), "cls_score.weight 81x4 -> 3x4"),
        (lambda model: model.pop("cls_score"), "2 are not there: cls_score.weight, cls_score.bias"),
    ],
)
def test_weights_that_are_not_trained_any_more_must_all_be_there(tmp_path, change, words, caplog):
    source = make_model()
    change(source)
    Checkpointer(source, tmp_path).save("weights", iteration=4)
    caplog.clear()
    with pytest.raises(UserError, match=words) as error:
        load_trained_weights(make_model(), str(tmp_path / "weights.pth"), named_by="--weights")
    assert "--weights" in error.value.fix and not [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert load_trained_weights(source, str(tmp_path / "weights.pth"))["iteration"] == 4


def test_buffers_have_their_values_without_a_file(tmp_path):
    Checkpointer(make_model(), tmp_path).save("weights")
    target = make_model()
    target.register_buffer("pixel_mean", torch.ones(3))
    load_trained_weights(target, str(tmp_path / "weights.pth"))


def test_a_failed_save_keeps_the_checkpoint_of_the_same_name(tmp_path, monkeypatch):
    checkpointer = Checkpointer(make_model(), tmp_path)
    checkpointer.save("model_final")
    before = (tmp_path / "model_final.pth").read_bytes()

    def fail_half_way(content, stream):
        stream.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", fail_half_way)
    with pytest.raises(RunFailure, match="No space left"):
        checkpointer.save("model_final")
    assert (tmp_path / "model_final.pth").read_bytes() == before
    assert [p.name for p in tmp_path.glob(".*")] == []


@pytest.mark.parametrize(
    "raised", [KeyboardInterrupt(), RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed.")]
)
@pytest.mark.parametrize("written", [0, 1000])
def test_what_a_signal_raises_during_a_save_is_no_failure_of_the_disk(tmp_path, monkeypatch, raised, written):
    class Interrupted(io.BytesIO):
        def write(self, data):
            if self.tell() >= written:
                raise raised
            return super().write(data)

    monkeypatch.setattr(checkpoint, "atomic_writer", lambda path: contextlib.nullcontext(Interrupted()))
    with pytest.raises(type(raised)) as error:
        Checkpointer(make_model(), tmp_path).save("model_final")
    assert error.value is raised


def test_leftovers_of_a_killed_process_are_removed(tmp_path):
    (tmp_path / ".model_0000009.pth.abc.tmp").write_bytes(b"half")
    (tmp_path / "model_0000009.pth").write_bytes(b"whole")
    evaluation = tmp_path / "evaluation" / "val" / "iter_9"
    evaluation.mkdir(parents=True)
    (evaluation / ".predictions.json.abc.tmp").write_bytes(b"half")
    RunFolder(tmp_path).remove_leftovers()
    assert {p.name for p in tmp_path.iterdir()} == {"model_0000009.pth", "evaluation"} and not any(evaluation.iterdir())


def test_what_an_evaluator_writes_while_a_training_starts_stays(tmp_path):
    evaluation = tmp_path / "evaluation" / "val" / "iter_9"
    for folder in (tmp_path, evaluation):
        with atomic_writer(folder / "predictions.json") as stream:
            RunFolder(tmp_path).remove_leftovers()
            stream.write(b"[]")
        assert (folder / "predictions.json").read_bytes() == b"[]"


def test_periodic_files_are_the_numbered_ones_newest_first(tmp_path):
    for name in ("model_0000009.pth", "model_0000019.pth", "model_best.pth", "model_final.pth"):
        (tmp_path / name).touch()
    assert [p.name for p in RunFolder(tmp_path).periodic()] == ["model_0000019.pth", "model_0000009.pth"]


def test_an_unreachable_address_is_an_error_with_a_way_out():
    with pytest.raises(UserError, match="can't load the checkpoint") as error:
        Checkpointer(make_model()).load("http://127.0.0.1:9/weights.pth")
    assert "train.init_checkpoint" in error.value.fix
