"""Trials of a sweep as jobs."""

import dataclasses
import sys
import time

import pytest

from tests.cluster.real_jobs import wait_until
from xray_lazy.cluster.cluster_profile import Profile
from xray_lazy.cluster.job_record import newest_jobs
from xray_lazy.cluster.status import process_runs
from xray_lazy.cluster.trial_launcher import ClusterLauncher
from xray_lazy.errors import UserError

SLEEP = "import time; print('here', flush=True); time.sleep(600)"


@pytest.fixture
def launcher(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # `python -c` looks for modules where it is started
    return ClusterLauncher(Profile(executor="local"), capacity=2)


def start(launcher, folder, code, **environment):
    return launcher.start([sys.executable, "-c", code], folder, environment)


def wait_for(trial, folder):
    wait_until(lambda: trial.poll() is not None, folder)
    return trial.poll()


def test_exit_codes_and_output_of_trials_come_back(launcher, tmp_path):
    show = "import os, time, xray_lazy; print(os.environ['GREETING'], xray_lazy.__file__)\n"
    show += "while not os.path.exists('go'): time.sleep(0.1)"
    good = start(launcher, tmp_path / "trials" / "0", show, GREETING="hello")
    bad = start(launcher, tmp_path / "trials" / "1", "import sys; print('error: bad data'); sys.exit(2)")
    assert good.poll() is None
    (tmp_path / "go").touch()
    assert (wait_for(good, tmp_path), wait_for(bad, tmp_path)) == (0, 2)
    output = (tmp_path / "trials" / "0" / "output.txt").read_text()
    assert f"hello {tmp_path}/trials/code/" in output
    assert "error: bad data" in (tmp_path / "trials" / "1" / "output.txt").read_text()
    assert len(newest_jobs([tmp_path])) == 2


def test_a_trial_that_is_stopped_leaves_and_one_that_is_killed_is_gone(launcher, tmp_path):
    leave = f"import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); {SLEEP}"
    stopped = start(launcher, tmp_path / "trials" / "0", leave)
    killed = start(launcher, tmp_path / "trials" / "1", f"import signal; signal.signal(signal.SIGTERM, print); {SLEEP}")
    for trial in (stopped, killed):
        output = tmp_path / "trials" / ("0" if trial is stopped else "1") / "output.txt"
        wait_until(lambda output=output: output.is_file() and "here" in output.read_text(), tmp_path)
    stopped.stop()
    killed.kill()
    assert wait_for(stopped, tmp_path) < 0
    wait_until(lambda: not process_runs(killed.record), tmp_path)


def test_what_a_dead_worker_left_is_ended_by_another_one(launcher, tmp_path):
    left = start(launcher, tmp_path / "trials" / "0", SLEEP)
    begin = time.monotonic()
    assert ClusterLauncher(Profile(executor="local"), 1).end_leftover(left.identity)
    assert not process_runs(left.record) and time.monotonic() - begin < 300
    assert not launcher.end_leftover("another-machine:12:/trials/0")


def test_a_profile_for_several_nodes_does_not_fit_a_trial():
    profile = dataclasses.replace(Profile(executor="slurm", time="60"), nodes=2)
    with pytest.raises(UserError, match="a trial has one node"):
        ClusterLauncher(profile, 1)
