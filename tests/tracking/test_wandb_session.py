"""The W&B session against a stand-in of the service: one history over all starts, and no waiting whatever happens."""

import contextlib
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import wandb_process

from tests.patience import PATIENCE
from xray_lazy.errors import UserError
from xray_lazy.tracking.wandb_files import find_parts
from xray_lazy.tracking.wandb_session import WandbSession

ROOT = Path(__file__).parent.parent.parent
PROCESS = ROOT / "tests" / "tracking" / "wandb_process.py"
TIMEOUT = 12
SLACK = 5  # seconds that a busy machine may add to a wait


class Training:
    """Starts of one run in processes of their own, as `wandb_process.py` does them."""

    def __init__(self, folder: Path):
        self.output = folder / "out"
        self.environment = os.environ | {"PYTHONPATH": str(ROOT), "WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL": "0.2"}
        self.code, self.waits, self.errors = None, {}, ""

    def run(self, at_pause=None, **asked):
        command = [sys.executable, str(PROCESS), str(self.output), json.dumps({"timeout": 60, **asked})]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "start_new_session": True}
        printed, begin = Path(f"{self.output}.err"), time.monotonic()
        with (
            open(printed, "w") as errors,
            subprocess.Popen(command, env=self.environment, stderr=errors, **pipes) as process,
        ):
            # W&B's own process, too, which outlives this one, and prints into the same pipe
            end = threading.Timer(PATIENCE, os.killpg, (process.pid, signal.SIGKILL))
            end.start()
            try:
                for line in process.stdout:
                    if line == "paused\n":
                        at_pause()
                        process.stdin.write("\n")
                        process.stdin.flush()
                    elif line.startswith("{"):
                        self.waits = json.loads(line)
            finally:
                end.cancel()
        self.code, self.errors = process.returncode, printed.read_text()
        assert time.monotonic() - begin < PATIENCE, self.errors
        return self

    def call(self, *command, code=0):
        given = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True, "timeout": 120}
        result = subprocess.run([sys.executable, *command], env=self.environment, **given)
        assert result.returncode == code, result.stderr
        return result.stdout + result.stderr

    def sync_with_wandb(self):
        return self.call("-m", "wandb", "sync", str(self.output / "wandb"))

    def sync(self, *before, code=0):
        return self.call(str(ROOT / "tools" / "sync.py"), *before, str(self.output), code=code)

    def rows_on_disk(self, part=0):
        parts = find_parts(self.output, json.loads((self.output / "run.json").read_text())["wandb_id"])
        assert len(parts) == part + 1
        return [row.values for row in parts[part].rows()]

    def cut_last_row(self):
        """As where the disk had not yet got what the server has."""
        (part,) = find_parts(self.output, json.loads((self.output / "run.json").read_text())["wandb_id"])
        data, rows = part.file.read_bytes(), len(part.rows())
        while len(part.rows()) == rows:
            data = data[:-1]
            part.file.write_bytes(data)


@pytest.fixture
def training(wandb_service, tmp_path):
    return Training(tmp_path)


def warnings_in(caplog) -> list[str]:
    """Of this package; W&B's own are another matter, and what else is told depends on levels that other tests set."""
    found = [record for record in caplog.records if record.levelno >= logging.WARNING]
    return [record.getMessage() for record in found if record.name.startswith("xray_lazy")]


def rows_of(iterations):
    """What an undisturbed training logs."""
    rows = []
    for iteration in iterations:
        rows.append({"iteration": iteration, "loss": pytest.approx(1 / (iteration + 1))})
        if (iteration + 1) % 5 == 0:
            rows.append({"iteration": iteration, "AP": iteration / 2})
    return rows


def test_a_run_that_was_killed_online_goes_on_with_each_value_once(training, wandb_service):
    assert training.run(stop=17, end="kill").code == -9
    assert training.run(start=10, stop=20).code == 0
    assert wandb_service.only_run().rows == rows_of(range(20))
    assert [row["_step"] for row in wandb_service.only_run().history] == list(range(24))
    assert wandb_service.only_run().state == "finished"


def test_what_the_server_has_and_the_disk_has_not_is_not_logged_again(training, wandb_service, tmp_path):
    training.run(stop=17)
    for path in sorted((tmp_path / "out" / "wandb").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    training.run(start=10, stop=20)
    assert wandb_service.only_run().rows == rows_of(range(20))


def test_what_the_server_has_of_a_killed_run_and_the_disk_has_not_is_not_logged_again(training, wandb_service):
    training.run(stop=17, pause=17, at_pause=lambda: wait_for_rows(wandb_service, rows_of(range(17))), end="kill")
    wandb_service.only_run().summary["iteration"] = 3  # W&B sends the summary less often than rows
    shutil.rmtree(training.output / "wandb")
    training.run(start=10, stop=20)
    assert wandb_service.only_run().rows == rows_of(range(20))


def test_values_of_an_iteration_that_the_disk_has_in_part_are_not_logged_again(training, wandb_service):
    training.run(stop=15, pause=15, at_pause=lambda: wait_for_rows(wandb_service, rows_of(range(15))), end="kill")
    training.cut_last_row()
    training.run(start=10, stop=20)
    assert wandb_service.only_run().rows == rows_of(range(20))


def wait_for_rows(service, rows):
    service.wait_for(lambda: service.only_run().rows == rows)


def test_a_run_that_moved_to_another_disk_and_was_killed_there_goes_on_with_each_value_once(training, wandb_service):
    training.run(stop=17)
    shutil.rmtree(training.output / "wandb")
    training.run(start=10, stop=19, end="kill")
    training.run(start=10, stop=25)
    assert wandb_service.only_run().rows == rows_of(range(25))


def test_what_a_killed_run_had_not_sent_comes_also_where_the_next_start_ends_before_it(training, wandb_service):
    training.run(stop=3)
    training.run(start=3, stop=12, pause=4, at_pause=wandb_service.stop, end="kill all")
    assert len(training.rows_on_disk(part=1)) == 11 and len(wandb_service.only_run().rows) < 6
    wandb_service.start()
    training.run(start=3, stop=6, end="preempt")
    training.run(start=6, stop=15)
    assert wandb_service.only_run().rows == rows_of(range(15))


def test_parts_recorded_offline_make_one_history_when_they_are_sent(training, wandb_service):
    assert training.run(mode="offline", stop=17, end="kill all").code == -9
    training.run(mode="offline", start=10, stop=20)
    assert f"to send it: python tools/sync.py {training.output}\n" in training.errors
    training.sync()
    assert wandb_service.only_run().rows == rows_of(range(20))
    training.run(start=15, stop=25)  # online, now that all is sent
    assert wandb_service.only_run().rows == rows_of(range(25))


@pytest.mark.slow
@pytest.mark.parametrize("sent", ["to the tool alone", "to its group", "twice"])
def test_sending_that_is_interrupted_leaves_no_process_and_each_value_is_sent_once(training, wandb_service, sent):
    training.run(mode="offline", stop=17, end="kill all")
    training.run(mode="offline", start=10, stop=20)
    wandb_service.delay = 0.3  # before each answer
    command = [sys.executable, str(ROOT / "tools" / "sync.py"), str(training.output)]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=training.environment, start_new_session=True, **pipes) as tool:
        wandb_service.wait_for(lambda: wandb_service.runs and wandb_service.only_run().lines)
        (os.killpg if sent == "to its group" else os.kill)(tool.pid, signal.SIGTERM)
        if sent == "twice":
            time.sleep(1.2)
            tool.send_signal(signal.SIGTERM)
        _, errors = tool.communicate(timeout=60)
    assert tool.returncode == 143 and errors.count("error:") == 1 and "Traceback" not in errors, errors
    with pytest.raises(ProcessLookupError):
        os.killpg(tool.pid, 0)
    wandb_service.delay = 0
    training.sync()
    assert wandb_service.only_run().rows == rows_of(range(20))


def test_a_folder_that_cannot_be_sent_keeps_no_other_from_it(training, wandb_service, tmp_path):
    training.run(mode="offline", stop=5)
    assert f"there is no run record {tmp_path / 'nothing'}" in training.sync(str(tmp_path / "nothing"), code=2)
    assert wandb_service.only_run().rows == rows_of(range(5))


def test_the_summary_of_parts_recorded_offline_has_what_only_an_earlier_one_logged(training, wandb_service):
    training.run(mode="offline", stop=17)
    training.run(mode="offline", start=15, stop=19)
    training.sync_with_wandb()
    summary = wandb_service.only_run().summary
    assert (summary["AP"], summary["iteration"]) == (7.0, 18)


def test_a_run_with_a_part_that_is_not_sent_goes_on_offline(training, wandb_service):
    training.run(mode="offline", stop=7)
    training.run(start=5, stop=10)
    assert "goes on offline" in training.errors
    assert not wandb_service.runs
    training.sync_with_wandb()
    assert wandb_service.only_run().rows == rows_of(range(10))


def test_what_a_server_that_died_has_not_got_is_sent_later_and_only_that(training, wandb_service):
    def die():
        wandb_service.wait_for(lambda: len(wandb_service.only_run().rows) > 5)
        wandb_service.stop()

    training.run(timeout=TIMEOUT, stop=20, pause=12, at_pause=die)
    assert training.code == 0 and training.errors.count("WARNING") == 1
    assert f"fix, once the run has ended: python tools/sync.py {training.output}" in training.errors
    assert training.waits["close"] < TIMEOUT + SLACK
    assert training.rows_on_disk() == rows_of(range(20))
    training.run(timeout=TIMEOUT, start=15, stop=25)  # still away
    wandb_service.start()
    training.sync()
    assert wandb_service.only_run().rows == rows_of(range(25))
    assert wandb_service.only_run().state == "finished"
    assert "all of it has been sent" in training.sync()
    assert wandb_service.only_run().rows == rows_of(range(25))


@pytest.mark.parametrize("fault", ["unreachable", "refuses"])
def test_sending_that_fails_records_nothing_and_can_be_repeated(training, wandb_service, fault):
    training.run(mode="offline", stop=5)
    if fault == "unreachable":
        wandb_service.stop()
        assert "error: W&B can't be reached, and nothing is sent: " in training.sync(code=1)
    else:
        wandb_service.status = 403
        assert "didn't take all of" in training.sync(code=1)
    printed = training.sync(code=1)  # of what an earlier sending has begun only the rest is sent
    assert "offline" not in printed.replace(str(training.output), "")
    assert len(list((training.output / "wandb").glob("offline-run-*"))) == 1
    wandb_service.start() if fault == "unreachable" else setattr(wandb_service, "status", 200)
    training.sync()
    assert wandb_service.only_run().rows == rows_of(range(5))


@pytest.mark.parametrize("fault", ["unreachable", "hangs", "answers with 500"])
def test_without_an_answer_training_waits_no_longer_than_stated_and_is_recorded_offline(training, wandb_service, fault):
    {"unreachable": wandb_service.stop, "hangs": wandb_service.hang}.get(fault, lambda: None)()
    wandb_service.status = 500 if fault == "answers with 500" else 200
    training.run(timeout=TIMEOUT, stop=20)
    assert training.code == 0
    assert training.errors.count("WARNING") == training.errors.count("W&B can't be reached") == 1
    assert training.rows_on_disk() == rows_of(range(20))
    assert training.waits["start"] < TIMEOUT + SLACK and training.waits["close"] < TIMEOUT + SLACK


@pytest.mark.parametrize("fault", ["slow", "hangs", "500"])
def test_a_server_that_fails_in_the_middle_is_no_wait_and_loses_nothing_on_disk(training, wandb_service, fault):
    def fail():
        wandb_service.delay = 3 if fault == "slow" else 0
        wandb_service.status = 500 if fault == "500" else 200
        if fault == "hangs":
            wandb_service.hang()

    training.run(timeout=TIMEOUT, stop=20, pause=10, at_pause=fail)
    assert training.code == 0
    assert training.waits["log"] < 1 + SLACK and training.waits["close"] < TIMEOUT + SLACK
    assert training.rows_on_disk() == rows_of(range(20))


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="finds W&B's process in /proc")
def test_a_service_process_that_is_stuck_is_no_wait_at_any_time(training):
    begin = time.monotonic()
    training.run(timeout=TIMEOUT, stop=13000, stop_service=100, evaluate=10**6)
    assert training.code == 0
    assert training.errors.count("WARNING") == training.errors.count("W&B failed to") == 1
    assert training.waits["log"] < 1 + SLACK and training.waits["close"] < TIMEOUT + SLACK
    assert time.monotonic() - begin < 60


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="finds W&B's process in /proc")
@pytest.mark.parametrize("last", [6, 200])
def test_a_service_process_that_is_ended_with_a_job_is_one_warning(training, last):
    training.run(stop=last, stop_service=5, service_signal="SIGTERM", evaluate=10**6)
    assert training.code == 0
    assert training.errors.count("WARNING") == training.errors.count("W&B failed to") == 1
    assert "Traceback" not in training.errors


@pytest.mark.parametrize(
    ("end", "code", "state"),
    [("", 0, "finished"), ("fail", 1, "failed"), ("interrupt", 255, "failed"), ("preempt", 1, "preempted")],
)
def test_the_run_ends_as_the_training_does(training, wandb_service, end, code, state):
    training.run(stop=3, end=end)
    run = wandb_service.only_run()
    assert (run.exit_code, run.state) == (code, state)


def test_a_preempted_run_goes_on(training, wandb_service):
    training.run(stop=10, end="preempt")
    training.run(start=10, stop=20)
    assert wandb_service.only_run().rows == rows_of(range(20))
    assert wandb_service.only_run().state == "finished"


def session_in(folder, timeout=30, mode="online", **options):
    return WandbSession(str(folder), None, mode, timeout, {"project": "xray", **options})


def test_what_the_config_leaves_open_is_read_from_the_environment(wandb_service, run, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_RUN_GROUP", "scanners")
    monkeypatch.setenv("WANDB_TAGS", "a,b")
    monkeypatch.setenv("WANDB_NOTES", "of the environment")
    monkeypatch.setenv("WANDB_PROJECT", "bags")
    monkeypatch.setenv("WANDB_NAME", "gun")
    session = session_in(tmp_path / "out", project=None, group=None, tags=[], notes="of the config")
    session.start(run)
    session.close()
    sent = wandb_service.only_run()
    assert (sent.project, sent.group, sent.tags, sent.display_name) == ("bags", "scanners", ["a", "b"], "gun")
    assert sent.notes == "of the config"


def test_a_setting_that_wandb_refuses_is_named(wandb_service, run, tmp_path, caplog):
    session_in(tmp_path / "out", mode="offline", tags=["x" * 100]).start(run)
    (warning,) = warnings_in(caplog)
    assert "run_tags" in warning and "64 characters" in warning


def test_several_runs_in_one_process(wandb_service, run, tmp_path):
    sessions = [session_in(tmp_path / name) for name in ("one", "other")]
    ids = [session.start(run)["wandb_id"] for session in sessions]
    for number, session in enumerate(sessions):
        session.log({"iteration": 0, "loss": number})
    assert all(session.close() for session in sessions)
    assert [wandb_service.runs[name].rows for name in ids] == [
        [{"iteration": 0, "loss": 0}],
        [{"iteration": 0, "loss": 1}],
    ]


def test_images_that_the_server_has_not_got_are_sent_when_the_run_goes_on(wandb_service, run, tmp_path):
    import wandb

    image = np.random.default_rng(0).integers(0, 255, (8, 8, 3)).astype(np.uint8)
    session = session_in(tmp_path / "out", timeout=12)
    run.wandb_id = session.start(run)["wandb_id"]
    wandb_service.stop()
    session.use("log images", lambda opened: opened.log({"iteration": 3, "bags": [wandb.Image(image)]}))
    assert not session.close()
    wandb_service.start()
    time.sleep(1)  # the names of parts tell seconds
    run.start_iteration = 5
    session = session_in(tmp_path / "out")
    session.start(run)
    assert session.close()
    ((row),) = wandb_service.only_run().rows
    (name,) = row["bags"]["filenames"]
    assert name in wandb_service.only_run().files


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="finds W&B's process in /proc")
def test_after_a_service_process_that_was_stuck_the_next_run_gets_another(wandb_service, run, tmp_path, caplog):
    stuck = session_in(tmp_path / "stuck", timeout=3)
    stuck.start(run)
    for service in wandb_process.services():
        os.kill(service, signal.SIGSTOP)
    assert not stuck.close() and run.wandb_id is None
    session = session_in(tmp_path / "next")
    name = session.start(run)["wandb_id"]
    session.log({"iteration": 0, "loss": 1.0})
    assert session.close()
    assert wandb_service.runs[name].rows == [{"iteration": 0, "loss": 1.0}]


def test_a_wrong_key_is_one_warning_and_the_run_is_recorded_offline(wandb_service, run, tmp_path, caplog):
    wandb_service.status = 401
    caplog.set_level(logging.WARNING)
    session = session_in(tmp_path / "out", timeout=10)
    session.start(run)
    session.log({"iteration": 0, "loss": 1.0})
    session.close()
    assert len(warnings_in(caplog)) == 1
    assert session.is_offline


def test_an_offline_run_whose_files_are_deleted_says_so_once(wandb_service, run, tmp_path, caplog):
    session = session_in(tmp_path / "out", mode="offline")
    run_id = session.start(run)["wandb_id"]
    while not find_parts(tmp_path / "out", run_id):
        time.sleep(0.05)
    session.log({"iteration": 0, "loss": 1.0})
    assert session.wait(PATIENCE) and session.is_open
    shutil.rmtree(tmp_path / "out" / "wandb")
    for iteration in (1, 2):
        session.log({"iteration": iteration, "loss": 1.0})
    assert not session.close()
    (warning,) = warnings_in(caplog)
    assert "W&B failed to log, training goes on without it" in warning and warning.endswith(f"{run_id} was deleted")


def test_an_offline_run_on_a_full_disk_says_so_once_and_without_tracebacks(
    wandb_service, run, tmp_path, caplog, capsys
):
    session = session_in(tmp_path / "out", mode="offline")
    session.start(run)
    assert session.wait(PATIENCE)
    logs = [one for one in logging.getLogger("wandb").handlers if str(tmp_path) in getattr(one, "baseFilename", "")]
    assert logs
    with open("/dev/full", "w") as full, contextlib.suppress(OSError):  # it complains at its end, too
        for log in logs:
            log.setStream(full)
        assert not session.close()
    (warning,) = warnings_in(caplog)
    assert "No space left on device; fix, once the run has ended: python tools/sync.py" in warning
    assert "Logging error" not in capsys.readouterr().err


@pytest.mark.parametrize("mode", ["bogus", "Online"])
def test_a_word_in_wandb_s_variable_that_is_no_mode_is_refused_before_a_run(tmp_path, monkeypatch, mode):
    monkeypatch.setenv("WANDB_MODE", mode)
    with pytest.raises(UserError, match=f"WANDB_MODE is '{mode}'"):
        WandbSession(str(tmp_path), None, "auto", 1.0, {})
    WandbSession(str(tmp_path), None, "disabled", 1.0, {})
    monkeypatch.setenv("WANDB_MODE", "dryrun")
    WandbSession(str(tmp_path), None, "auto", 1.0, {})
