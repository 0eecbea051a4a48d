"""W&B: what the offline file holds, and that no trouble of W&B's stops a run."""

import json
import logging
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import offline_run_file as recorded
import pytest
from detectron2.utils.events import EventStorage

from xray_lazy.errors import UserError
from xray_lazy.tracking.logged_names import LoggedNames
from xray_lazy.tracking.wandb import WandbWriter


def train(writer: WandbWriter, iterations: range, period: int = 5) -> None:
    with EventStorage(iterations.start) as storage:
        for storage.iter in iterations:
            storage.put_scalars(total_loss=1.0 / (storage.iter + 1), loss_cls=0.1)
            storage.put_scalars(smoothing_hint=False, epoch=storage.iter / 10, images_seen=8 * (storage.iter + 1))
            if (storage.iter + 1) % period == 0:
                writer.write()
        storage.put_scalars(smoothing_hint=False, **{"bbox/AP": 36.5, "bbox/AP-gun": float("nan")})
        writer.write()
        writer.write()
        writer.close()


def test_offline_one_row_per_write_with_iteration_epoch_and_images_seen(logged_out, run, tmp_path, capfd, caplog):
    caplog.set_level(logging.INFO)
    writer = WandbWriter("xray", str(tmp_path / "out"), tags=["demo"], group="scanners")
    facts = writer.start(run)
    train(writer, range(20))
    records = recorded.read_finished(tmp_path / "out")
    rows = recorded.history(records)
    assert [row["iteration"] for row in rows] == [4, 9, 14, 19, 19]
    assert rows[1]["total_loss"] == pytest.approx(sum((1 / 5, 1 / 6)) / 2)  # the median of 1/1 ... 1/10
    assert (rows[1]["epoch"], rows[1]["images_seen"]) == (0.9, 80)
    # the class without instances, whose AP is NaN, has nothing to show
    assert rows[-1] == {"iteration": 19, "epoch": 1.9, "images_seen": 160, "bbox/AP": 36.5}
    assert recorded.axes(records)["*"] == "iteration"
    described = recorded.run(records)
    assert (described.run_id, described.project, described.display_name) == (facts["wandb_id"], "xray", "gun_run")
    assert (list(described.tags), described.run_group) == (["demo"], "scanners")
    assert capfd.readouterr() == ("", "")
    (message,) = (record.message for record in caplog.records if record.name.startswith("xray_lazy"))
    assert message.endswith(f"python tools/sync.py {tmp_path}/out")


def recorded_run(run, folder, put, **options) -> list:
    """The records of a run that does `put(storage, write)`."""
    writer = WandbWriter("xray", str(folder), **options)
    writer.start(run)
    with EventStorage(run.start_iteration) as storage:
        put(storage, writer.write)
    writer.close()
    return recorded.read_finished(folder)


def test_a_row_lies_on_every_axis_also_where_its_values_are_older_than_the_epoch(logged_out, run, tmp_path):
    def put(storage, write):
        for storage.iter in range(10):
            storage.put_scalars(smoothing_hint=False, epoch=(storage.iter + 1) / 7, images_seen=8 * (storage.iter + 1))
            if storage.iter == 3:
                storage.put_scalar("bbox/AP", 36.5, smoothing_hint=False)
        write()
        storage.put_scalar("segm/AP", 30.0, smoothing_hint=False)
        write()
        write()

    rows = recorded.history(recorded_run(run, tmp_path / "out", put))
    assert [row["iteration"] for row in rows] == [3, 9, 9]
    assert rows[0] == {"iteration": 3, "epoch": pytest.approx(4 / 7), "images_seen": 32, "bbox/AP": 36.5}
    assert rows[2] == {"iteration": 9, "epoch": pytest.approx(10 / 7), "images_seen": 80, "segm/AP": 30.0}


def test_the_axis_of_the_charts_is_a_choice(logged_out, run, tmp_path):
    records = recorded_run(run, tmp_path / "out", lambda storage, write: None, axis="images_seen")
    assert recorded.axes(records) == {"iteration": "", "epoch": "", "images_seen": "", "*": "images_seen"}
    with pytest.raises(UserError, match="iteration, epoch, images_seen"):
        WandbWriter("xray", str(tmp_path), axis="images")


BEST = {"*/AP**": "max", "val_loss/*": "min"}


def test_the_summary_holds_the_last_and_the_best_value_whatever_is_not_a_number(logged_out, run, tmp_path):
    def put(storage, write):
        for storage.iter, (loss, ap) in enumerate([(3.0, 20.0), (1.0, math.nan), (2.0, 30.0), (4.0, 25.0)]):
            storage.put_scalars(smoothing_hint=False, lr=0.1, **{"val_loss/total_loss": loss, "bbox/AP": ap})
            write()

    names = LoggedNames([["*/AP", "val/*_mAP", 0.01]])
    summary = recorded.summary(recorded_run(run, tmp_path / "out", put, best=BEST, names=names))
    assert (summary["val/bbox_mAP"], summary["best/val/bbox_mAP"]) == (0.25, 0.3)
    assert (summary["val_loss/total_loss"], summary["best/val_loss/total_loss"]) == (4.0, 1.0)
    assert summary["lr"] == 0.1 and "best/lr" not in summary


def test_a_resumed_run_knows_the_best_of_the_iterations_that_it_keeps(logged_out, run, tmp_path):
    Path(run.output_dir).mkdir()
    lines = [{"iteration": 1, "bbox/AP": 33.0}, {"iteration": 3, "bbox/AP": 35.0}, {"iteration": 5, "bbox/AP": 90.0}]
    (Path(run.output_dir) / "metrics.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    run.start_iteration, run.resumed = 4, True

    def put(storage, write):
        storage.put_scalar("bbox/AP", 34.0, smoothing_hint=False)
        write()

    summary = recorded.summary(recorded_run(run, tmp_path / "out", put, best=BEST))
    assert (summary["bbox/AP"], summary["best/bbox/AP"]) == (34.0, 35.0)


def test_a_goal_that_is_neither_max_nor_min_is_refused(tmp_path):
    with pytest.raises(UserError, match="max or min"):
        WandbWriter("xray", str(tmp_path), best={"*/AP": "highest"})


def test_the_config_holds_experiment_overrides_command_git_and_versions(logged_out, run, tmp_path):
    writer = WandbWriter("xray", str(tmp_path / "out"))
    writer.start(run)
    writer.close()
    config = recorded.config(recorded.read_finished(tmp_path / "out"))
    assert config["optimizer"] == {"lr": 0.01}
    assert config["run"]["overrides"] == ["optimizer.lr=0.01"]
    assert config["run"]["command"] == run.command
    assert config["run"]["git"] == run.git
    assert config["run"]["versions"]["torch"] == run.versions["torch"]
    assert config["run"]["world_size"] == 2


def test_a_resumed_run_keeps_its_id(logged_out, run, tmp_path):
    writer = WandbWriter("xray", str(tmp_path / "first"))
    run.wandb_id = writer.start(run)["wandb_id"]
    writer.close()
    writer = WandbWriter("xray", str(tmp_path / "second"))
    assert writer.start(run) == {"wandb_id": run.wandb_id}
    writer.close()
    assert recorded.run(recorded.read_finished(tmp_path / "second")).run_id == run.wandb_id


@pytest.mark.parametrize("how", ["config", "environment"])
def test_disabled_writes_nothing(logged_out, run, tmp_path, how):
    if how == "environment":
        logged_out.setenv("WANDB_MODE", "disabled")
    writer = WandbWriter("xray", str(tmp_path / "out"), mode="disabled" if how == "config" else "auto")
    assert writer.start(run) == {}
    train(writer, range(5))
    assert not (tmp_path / "out").exists()


def test_online_without_a_log_in_records_offline_and_never_asks(logged_out, run, tmp_path, caplog):
    writer = WandbWriter("xray", str(tmp_path / "out"), mode="online")
    writer.start(run)
    train(writer, range(5))
    assert "fix: wandb login" in caplog.text
    assert recorded.history(recorded.read_finished(tmp_path / "out"))


def test_an_unknown_mode_names_the_modes(tmp_path):
    with pytest.raises(UserError, match="auto, online, offline, disabled"):
        WandbWriter("xray", str(tmp_path), mode="on")


PROCESS = """
import logging, os, signal, subprocess, sys
from pathlib import Path
from detectron2.utils.events import EventStorage
from omegaconf import OmegaConf
from xray_lazy.tracking.run_record import RunRecord
from xray_lazy.tracking.wandb import WandbWriter

logging.basicConfig(level=logging.WARNING)
out, trouble = sys.argv[1:]
if trouble == "not installed":
    sys.modules["wandb"] = None
run = RunRecord.collect(OmegaConf.create({"train": {"output_dir": out}}))
writer = WandbWriter("xray", out, timeout=20)
writer.start(run)
if trouble == "service dies":
    tasks = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    services = [int(pid) for task in tasks for pid in task.read_text().split()]
    assert services, "W&B has no service process"
    for pid in services:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
with EventStorage() as storage:
    for storage.iter in range(20):
        storage.put_scalar("total_loss", 1.0)
        writer.write()
writer.close()
print("trained to the end")
"""


def run_process(tmp_path, trouble: str, **variables: str) -> tuple[subprocess.CompletedProcess, float]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    environment |= {"HOME": str(tmp_path), "NETRC": str(tmp_path / "netrc"), **variables}
    start = time.monotonic()
    result = subprocess.run(
        [sys.executable, "-c", PROCESS, str(tmp_path / "out"), trouble],
        capture_output=True,
        text=True,
        env=environment,
        stdin=subprocess.DEVNULL,
        timeout=120,
    )
    assert result.stdout == "trained to the end\n", result.stderr
    assert result.returncode == 0, result.stderr
    return result, time.monotonic() - start


def test_without_the_package_one_warning_with_the_fix(tmp_path):
    result, _ = run_process(tmp_path, "not installed")
    assert result.stderr.count("WARNING") == result.stderr.count("pip install wandb") == 1


def test_an_unreachable_server_is_one_warning_and_the_run_is_recorded_offline(tmp_path):
    result, seconds = run_process(
        tmp_path, "unreachable", WANDB_BASE_URL="http://127.0.0.1:9", WANDB_API_KEY="0123456789" * 4
    )
    assert result.stderr.count("WARNING") == 1
    assert "W&B can't be reached" in result.stderr
    (recording,) = (tmp_path / "out" / "wandb").glob("offline-run-*")
    assert len(recorded.history(recorded.read_finished(recording))) == 20
    assert seconds < 60


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="finds W&B's process in /proc")
def test_a_service_that_dies_is_one_warning(tmp_path):
    result, seconds = run_process(tmp_path, "service dies")
    assert result.stderr.count("W&B failed to") == 1
    assert seconds < 60


def test_a_training_that_fails_is_marked_as_failed(logged_out, run, tmp_path):
    writer = WandbWriter("xray", str(tmp_path / "out"))
    writer.start(run)
    with pytest.raises(RuntimeError, match="the loss is not finite"):
        try:
            raise RuntimeError("the loss is not finite")
        finally:
            writer.close()
    (end,) = (r.exit for r in recorded.read_finished(tmp_path / "out") if r.WhichOneof("record_type") == "exit")
    assert end.exit_code == 1
