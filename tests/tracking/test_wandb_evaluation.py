"""What `--eval-only` adds to the W&B run of the training that the weights are of, with a stand-in of the service."""

import json

import pytest
from omegaconf import OmegaConf

from tests.engine.conftest import CONFIG
from xray_lazy.engine.run import RunOptions, run
from xray_lazy.tracking.run_record import RunRecord
from xray_lazy.tracking.wandb_evaluation import add_evaluation
from xray_lazy.tracking.wandb_session import WandbSession

MMDETECTION = [["*/AP", "val/*_mAP", 0.01]]
AXES = {"iteration", "epoch", "images_seen"}


@pytest.fixture
def folder(tmp_path):
    """The output folder of a training of 20 iterations that was evaluated after 10 and 20 of them."""
    folder = tmp_path / "out"
    folder.mkdir()
    rows = [{"iteration": n, "epoch": n / 10, "images_seen": 2 * n, "bbox/AP": 30.0 + n} for n in (9, 19)]
    (folder / "metrics.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def trained(folder, **writer):
    """The training's start, and the config of an evaluation of its final weights."""
    tracking = {"names": "mmdetection", "own": [], "tables": {"mmdetection": MMDETECTION}}
    train = {"output_dir": str(folder), "tracking": tracking, "init_checkpoint": str(folder / "model_final.pth")}
    cfg = OmegaConf.create({"train": train, "writers": {"wandb": {"project": "xray", "group": "smith", **writer}}})
    start = RunRecord.collect(cfg)
    start.datasets = {"test": {"name": "xray_smith_val"}}
    session = WandbSession(str(folder), None, "online", 60, {"project": "xray", "group": "smith"})
    start.wandb_id = session.start(start)["wandb_id"]
    start.write(folder / "run.json")
    session.log({"iteration": 19, "val/bbox_mAP": 0.49})
    return session, cfg


def test_another_set_has_its_own_name_beside_the_curves_of_training(wandb_service, folder):
    session, cfg = trained(folder)
    assert session.close(exit_code=0)
    add_evaluation(cfg, "xray_smith_test", {"bbox/AP": 40.0, "bbox/AP-gun": float("nan")}, 9)
    served = wandb_service.only_run()
    assert served.rows[-1] == {"xray_smith_test/bbox/AP": 40.0, "iteration": 9, "epoch": 0.9, "images_seen": 18}
    assert (served.summary["xray_smith_test/bbox/AP"], served.summary["val/bbox_mAP"]) == (40.0, 0.49)
    assert (served.state, served.group) == ("finished", "smith")


def test_the_set_of_training_has_its_usual_names_and_is_not_logged_twice(wandb_service, folder):
    session, cfg = trained(folder)
    assert session.close(exit_code=0)
    asked = len(wandb_service.operations)
    add_evaluation(cfg, "xray_smith_val", {"bbox/AP": 49.0}, 19)
    assert len(wandb_service.operations) == asked
    add_evaluation(cfg, "xray_smith_val", {"bbox/AP": 45.0}, 14)
    assert wandb_service.only_run().rows[-1] == {"val/bbox_mAP": 0.45, "iteration": 14}


def test_a_run_that_failed_stays_failed(wandb_service, folder):
    session, cfg = trained(folder)
    session.close(exit_code=1)
    add_evaluation(cfg, "xray_smith_test", {"bbox/AP": 40.0}, 9)
    assert wandb_service.only_run().state == "failed"


def test_a_training_that_goes_on_is_left_alone_and_said(wandb_service, folder, caplog):
    session, cfg = trained(folder)
    add_evaluation(cfg, "xray_smith_test", {"bbox/AP": 40.0}, 9)
    session.close(exit_code=0)
    assert "W&B has not got these metrics" in caplog.text and f"tools/sync.py {folder}" in caplog.text
    assert [row["iteration"] for row in wandb_service.only_run().rows] == [19]


def test_without_w_and_b_nothing_is_asked(wandb_service, folder):
    session, cfg = trained(folder, mode="disabled")
    session.close(exit_code=0)
    rows = len(wandb_service.only_run().rows)
    add_evaluation(cfg, "xray_smith_test", {"bbox/AP": 40.0}, 9)
    cfg.train.init_checkpoint = "https://example.org/weights.pth"
    add_evaluation(cfg, "xray_smith_test", {"bbox/AP": 40.0}, 9)
    assert len(wandb_service.only_run().rows) == rows


def test_the_training_tool_adds_what_it_evaluates(wandb_service, tiny_set, tmp_path):
    here = [f"train.output_dir={tmp_path / 'run'}", "train.device=cpu", "writers.wandb.mode=online", "train.max_iter=1"]
    run(RunOptions(CONFIG, [*here, "~hooks.evaluation", "~hooks.best_checkpoint"]))
    before = wandb_service.only_run().rows
    assert not any("val/bbox/AP" in row for row in before)
    weights = f"train.init_checkpoint={tmp_path / 'run' / 'model_final.pth'}"
    run(RunOptions(CONFIG, [*here, weights], eval_only=True))
    added = wandb_service.only_run().rows[len(before) :]
    assert len(added) == 1 and {"val/bbox/AP", "val/segm/AP"} < set(added[0])
    assert {name: before[0][name] for name in AXES} == {name: added[0][name] for name in AXES}
