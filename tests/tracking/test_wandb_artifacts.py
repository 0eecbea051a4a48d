"""Checkpoints as W&B artifacts, read from the offline recording."""

import json
from pathlib import Path

import offline_run_file as recorded
import pytest
from detectron2.utils.events import EventStorage

from xray_lazy.errors import UserError
from xray_lazy.tracking.wandb import WandbWriter


@pytest.fixture
def folder(run):
    """The output folder of a training that is done: best at iteration 19, last evaluated at iteration 39."""
    folder = Path(run.output_dir)
    evaluation = folder / "evaluation" / "demo_val" / "iter_39"
    evaluation.mkdir(parents=True)
    (evaluation / "metrics.json").write_text(json.dumps({"dataset": "x", "bbox": {"AP": 30.5, "AP50": 60.0, "APs": 1}}))
    best = {"mode": "max", "metric": "segm/AP", "value": 44.3, "iteration": 19, "file": "model_best.pth", "others": []}
    (folder / "best.json").write_text(json.dumps(best))
    for name in ("config.yaml", "model_best.pth", "model_final.pth"):
        (folder / name).write_text(f"content of {name}")
    (folder / "last_checkpoint").write_text("model_final.pth")
    return folder


def logged_artifacts(run, checkpoints: str) -> list:
    writer = WandbWriter("xray", run.output_dir, name="my run/1", checkpoints=checkpoints)
    writer.start(run)
    with EventStorage(39) as storage:
        storage.put_scalar("total_loss", 1.0)
        writer.write()
    writer.close()
    records = recorded.read_finished(run.output_dir)
    return [record.artifact for record in records if record.WhichOneof("record_type") == "artifact"]


def test_best_and_final_are_versions_of_one_model_with_aliases_and_metrics(logged_out, run, folder):
    best, final = logged_artifacts(run, "best and final")
    assert best.name == final.name and best.name.startswith("my_run_1-") and best.type == "model"
    assert set(best.aliases) == {"best", "iter_19", "latest"} and set(final.aliases) == {"final", "iter_39", "latest"}
    assert json.loads(best.metadata) == {"metric": "segm/AP", "mode": "max", "value": 44.3, "iteration": 19}
    assert json.loads(final.metadata) == {"iteration": 39, "bbox/AP": 30.5, "bbox/AP50": 60.0}


def test_a_model_comes_with_its_config_and_is_not_copied(logged_out, run, folder):
    (final,) = logged_artifacts(run, "final")
    files = {entry.path: entry.local_path for entry in final.manifest.contents}
    assert files == {name: str(folder / name) for name in ("model_final.pth", "config.yaml")}


def test_of_several_test_sets_the_mean_is_told(logged_out, run, folder):
    for name, content in {"other_val": {"bbox": {"AP": 10}}, "demo_val+other_val": {"bbox": {"AP": 20.25}}}.items():
        path = folder / "evaluation" / name / "iter_39" / "metrics.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(content | ({"mean_of": name.split("+")} if "+" in name else {})))
    (final,) = logged_artifacts(run, "final")
    assert json.loads(final.metadata)["bbox/AP"] == 20.25


@pytest.mark.parametrize("checkpoints", ["none", "best", "final"])
def test_only_what_was_asked_for_is_logged(logged_out, run, folder, checkpoints):
    aliases = {alias for artifact in logged_artifacts(run, checkpoints) for alias in artifact.aliases}
    assert aliases & {"best", "final"} == {checkpoints} - {"none"}


def test_each_best_by_another_metric_has_its_own_alias(logged_out, run, folder):
    record = json.loads((folder / "best.json").read_text())
    (folder / "best_loss.json").write_text(json.dumps(record | {"file": "model_best_loss.pth", "iteration": 9}))
    (folder / "model_best_loss.pth").write_text("loss")
    aliases = [set(artifact.aliases) - {"latest"} for artifact in logged_artifacts(run, "best")]
    assert aliases == [{"best", "iter_19"}, {"best_loss", "iter_9"}]


def test_a_run_without_a_best_checkpoint_says_that_none_is_sent(logged_out, run, folder, caplog):
    (folder / "best.json").unlink()
    (final,) = logged_artifacts(run, "best and final")
    assert "final" in final.aliases and "W&B gets no best checkpoint" in caplog.text


@pytest.mark.parametrize("state", ["interrupted", "not even begun"])
def test_a_training_that_is_not_done_logs_nothing(logged_out, run, folder, state):
    if state == "interrupted":
        (folder / "last_checkpoint").write_text("model_0000029.pth")
    else:
        (folder / "last_checkpoint").unlink()
    assert logged_artifacts(run, "best and final") == []


def test_a_training_that_failed_logs_nothing(logged_out, run, folder):
    with pytest.raises(ZeroDivisionError):
        writer = WandbWriter("xray", run.output_dir, checkpoints="final")
        writer.start(run)
        try:
            raise ZeroDivisionError
        finally:
            writer.close()
    kinds = [record.WhichOneof("record_type") for record in recorded.read_finished(run.output_dir)]
    assert "exit" in kinds and "artifact" not in kinds


def test_another_choice_is_refused():
    with pytest.raises(UserError, match="none, best, final, best and final"):
        WandbWriter("xray", "out", checkpoints="all")


def test_online_the_end_of_the_run_waits_until_they_are_sent(wandb_service, run, folder):
    assert logged_online(run, "best and final")
    sent = [artifact for artifact in wandb_service.artifacts.values() if artifact["artifactTypeName"] == "model"]
    assert [{a["alias"] for a in artifact["aliases"]} - {"latest"} for artifact in sent] == [
        {"best", "iter_19"},
        {"final", "iter_39"},
    ]
    assert all(artifact["state"] == "COMMITTED" for artifact in sent)
    assert sent[1]["files"]["model_final.pth"] == b"content of model_final.pth"


def logged_online(run, checkpoints: str) -> bool:
    writer = WandbWriter("xray", run.output_dir, mode="online", checkpoints=checkpoints)
    facts = writer.start(run)
    with EventStorage(39) as storage:
        storage.put_scalar("total_loss", 1.0)
        writer.write()
    writer.close()
    return bool(facts)
