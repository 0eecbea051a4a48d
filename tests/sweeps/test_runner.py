"""The loop over trials, on trainings of a few milliseconds: how trials end, share devices, stop early, and go on."""

import os
import signal
import sys
from pathlib import Path

import pytest

from tests.patience import exit_codes, wait_until
from tests.sweeps.quick_sweep import make_sweep, run_quick, start_worker
from xray_lazy.errors import UserError
from xray_lazy.sweeps import runner
from xray_lazy.sweeps.local_launcher import MARK, LocalLauncher, share_gpus, share_processors
from xray_lazy.sweeps.study import SweepStudy, list_trials
from xray_lazy.sweeps.trials import best_trial
from xray_lazy.sweeps.workers import Worker


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(runner, "POLL_SECONDS", 0.02)


def starts(trial):
    return (trial.folder / "starts.txt").read_text().splitlines()


def marked_processes(folder):
    """The processes that train below `folder`."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if f"train.output_dir={folder}" in words:
            found.append(int(process.name))
    return found


def test_trials_are_recorded_with_values_and_curves(tmp_path):
    sweep = make_sweep()
    assert run_quick(tmp_path / "sweep", sweep, 3) is None
    trials = list_trials(tmp_path / "sweep")
    assert [(trial.number, trial.state, trial.folder.name) for trial in trials] == [
        (0, "finished", "0000"), (1, "finished", "0001"), (2, "finished", "0002"),
    ]  # fmt: skip
    for trial in trials:
        loss = trial.parameters["loss"]
        assert trial.intermediate_values == {0: loss, 1: loss - 1, 2: loss - 2} and trial.value == loss - 2
        assert trial.seconds > 0
    assert best_trial(sweep.metric, trials).value == min(trial.value for trial in trials)


def test_each_way_to_fail_is_recorded_with_its_reason_and_the_sweep_goes_on(tmp_path, capsys):
    ends = ["crash", "user_error", "wordless", "kill", "not_finite", "no_metric", "well"]
    sweep = make_sweep("grid", parameters={"loss": {"value": 4}, "end": {"values": ends}})
    run_quick(tmp_path / "sweep", sweep, 7)
    crash, user_error, wordless, kill, not_finite, no_metric, well = list_trials(tmp_path / "sweep")
    assert (crash.state, crash.reason) == ("failed", "exit code 1: OutOfMemoryError: CUDA out of memory")
    assert (user_error.state, user_error.reason) == ("failed", "exit code 2: there are no images")
    assert wordless.reason == "exit code 3: it did not say why, see its output.txt"
    assert kill.state == "killed" and kill.reason.startswith("killed by SIGKILL") and "memory" in kill.reason
    assert not list(kill.folder.glob(".*.tmp"))
    assert (not_finite.state, not_finite.reason) == ("failed", "no value of total_loss is finite")
    assert no_metric.state == "failed" and "did you mean total_los?" in no_metric.reason
    assert (well.state, well.value, well.reason) == ("finished", 2.0, "")
    printed = capsys.readouterr().out
    assert "trial 0 failed" in printed and "CUDA out of memory" in printed and "the best until now" in printed


def test_user_errors_from_the_start_end_the_sweep(tmp_path):
    sweep = make_sweep(parameters={"loss": {"min": 1.0, "max": 2.0}, "end": {"value": "user_error"}})
    with pytest.raises(UserError, match=r"the first 3 trials have all ended.*there are no images"):
        run_quick(tmp_path / "sweep", sweep, 20)
    assert len(list_trials(tmp_path / "sweep")) == 3


def test_a_metric_that_the_first_trial_never_logged_ends_the_sweep(tmp_path):
    sweep = make_sweep(parameters={"loss": {"min": 1.0, "max": 2.0}, "end": {"value": "no_metric"}})
    with pytest.raises(UserError, match=r"the first trial has ended.*no total_loss; did you mean total_los\?"):
        run_quick(tmp_path / "sweep", sweep, 20)
    assert len(list_trials(tmp_path / "sweep")) == 1


def test_errors_later_do_not(tmp_path):
    sweep = make_sweep("grid", parameters={"loss": {"value": 4}, "end": {"values": ["well", "crash"]}})
    run_quick(tmp_path / "sweep", sweep, 2)
    assert [trial.state for trial in list_trials(tmp_path / "sweep")] == ["finished", "failed"]


def test_a_grid_takes_each_combination_once_and_ends(tmp_path):
    parameters = {"loss": {"values": [3, 1]}, "iterations": {"min": 1, "max": 2}}
    run_quick(tmp_path / "sweep", make_sweep("grid", parameters=parameters), 4, [{}, {}])
    pairs = [(trial.parameters["loss"], trial.parameters["iterations"]) for trial in list_trials(tmp_path / "sweep")]
    assert pairs == [(3, 1), (3, 2), (1, 1), (1, 2)]


def test_no_trial_is_started_after_the_target_is_reached(tmp_path):
    sweep = make_sweep(
        "grid", metric={"name": "total_loss", "target": 2}, parameters={"loss": {"values": [9, 4, 8, 7]}}
    )
    run_quick(tmp_path / "sweep", sweep, 4)
    assert [trial.value for trial in list_trials(tmp_path / "sweep")] == [7.0, 2.0]


def test_a_trial_that_falls_behind_is_pruned_in_order(tmp_path):
    stop = {"type": "hyperband", "min_iter": 2, "eta": 2, "strict": True}
    parameters = {"loss": {"values": [5, 6, 9]}, "iterations": {"value": 6}, "pause": {"value": 0.1}}
    run_quick(tmp_path / "sweep", make_sweep("grid", early_terminate=stop, parameters=parameters), 3)
    first, second, third = list_trials(tmp_path / "sweep")
    # of two trials the better one goes on
    assert (first.state, second.state, third.state) == ("finished", "pruned", "pruned")
    assert "worse than others" in third.reason and third.value is None
    assert 2 <= len(third.intermediate_values) < 6
    newest = (third.folder / "last_checkpoint").read_text()
    assert newest == f"model_{len(third.intermediate_values) - 1:07d}.pth", "it saved and left"


def test_parallel_trials_have_devices_of_their_own(tmp_path):
    places = [{"CUDA_VISIBLE_DEVICES": "0,1"}, {"CUDA_VISIBLE_DEVICES": "2,3"}]
    sweep = make_sweep(parameters={"loss": {"min": 1.0, "max": 9.0}, "pause": {"value": 0.3}})
    run_quick(tmp_path / "sweep", sweep, 4, places)
    used = [starts(trial)[0].split()[1] for trial in list_trials(tmp_path / "sweep")]
    assert sorted(used[:2]) == ["0,1", "2,3"] and set(used) == {"0,1", "2,3"}


def test_gpus_are_shared_out_among_those_that_are_visible(monkeypatch):
    monkeypatch.setattr("xray_lazy.sweeps.local_launcher.count_gpus", lambda: 4)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert [place["CUDA_VISIBLE_DEVICES"] for place in share_gpus(2, 2)] == ["0,1", "2,3"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7,GPU-a,5,4")
    assert [place["CUDA_VISIBLE_DEVICES"] for place in share_gpus(3, 1)] == ["7", "GPU-a", "5"]
    with pytest.raises(UserError, match=r"2 trials at once with 3 GPUs each.*there are 4") as error:
        share_gpus(2, 3)
    assert "--trials-in-parallel to 1" in error.value.fix
    with pytest.raises(UserError, match="8 GPUs are asked for"):
        share_gpus(1, 8)


def test_processors_are_shared_out_as_threads(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(16)))
    assert [place["OMP_NUM_THREADS"] for place in share_processors(2, 2)] == ["4", "4"]
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert share_processors(1, 2)[0]["OMP_NUM_THREADS"] == "3"


def test_a_worker_that_is_killed_leaves_no_training_and_its_trial_goes_on(tmp_path):
    folder = tmp_path / "sweep"
    sweep = make_sweep(
        parameters={"loss": {"min": 5.0, "max": 9.0}, "iterations": {"value": 8}, "pause": {"value": 0.2}}
    )
    process = start_worker(folder, sweep, 3, 2)
    wait_until(lambda: [len(trial.intermediate_values) > 2 for trial in list_trials(folder)] == [True, True])
    process.kill()
    process.join()
    wait_until(lambda: not marked_processes(folder), 10)
    assert [trial.state for trial in list_trials(folder)] == ["interrupted", "interrupted"]
    before = [trial.parameters for trial in list_trials(folder)]

    assert run_quick(folder, sweep, 3, [{}, {}]) is None
    trials = list_trials(folder)
    assert [trial.state for trial in trials] == ["finished"] * 3
    assert [trial.parameters for trial in trials[:2]] == before
    assert [len(starts(trial)) for trial in trials] == [2, 2, 1]
    assert all(int(starts(trial)[1].split()[0]) > 2 for trial in trials[:2]), "from their checkpoints"
    assert all(list(trial.intermediate_values) == list(range(8)) for trial in trials)


def test_a_training_that_outlives_its_worker_is_ended_before_its_trial_goes_on(tmp_path):
    launcher = LocalLauncher([{}])
    words = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(99)"
    )
    trial = launcher.start([sys.executable, "-c", words], tmp_path, {})
    wait_until(lambda: "ready" in (tmp_path / "output.txt").read_text())
    from xray_lazy.sweeps import local_launcher

    local_launcher.SAVING_SECONDS, before = 0.5, local_launcher.SAVING_SECONDS
    try:
        assert LocalLauncher([{}]).end_leftover(trial.identity)
    finally:
        local_launcher.SAVING_SECONDS = before
    assert trial._process.wait(timeout=5) == -signal.SIGKILL
    assert not launcher.end_leftover("elsewhere:" + trial.identity.partition(":")[2])


def test_ending_a_trial_ends_all_its_processes_also_those_in_groups_of_their_own(tmp_path):
    words = (
        "import os, subprocess, sys, time;"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(99)'], start_new_session=True);"
        "print(child.pid, flush=True); time.sleep(99)"
    )
    trial = LocalLauncher([{}]).start([sys.executable, "-c", words], tmp_path, {})
    wait_until(lambda: (tmp_path / "output.txt").read_text().strip())
    child = int((tmp_path / "output.txt").read_text())
    wait_until(lambda: MARK.encode() in Path(f"/proc/{child}/environ").read_bytes())
    trial.kill()
    wait_until(
        lambda: not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text().split()[2], 10
    )


@pytest.mark.parametrize(
    "numbers", [(signal.SIGINT,), (signal.SIGTERM,), (signal.SIGTERM, signal.SIGHUP)], ids=["INT", "TERM", "session"]
)
def test_a_signal_stops_trials_in_order_and_the_same_command_goes_on(tmp_path, numbers):
    folder = tmp_path / "sweep"
    sweep = make_sweep(
        parameters={"loss": {"min": 5.0, "max": 9.0}, "iterations": {"value": 12}, "pause": {"value": 0.1}}
    )
    process = start_worker(folder, sweep, 2)
    wait_until(lambda: any(len(trial.intermediate_values) > 1 for trial in list_trials(folder)))
    for number in numbers:
        os.kill(process.pid, number)
    [code] = exit_codes([process], tmp_path / "sweep.txt")
    assert code in [128 + number for number in numbers]
    printed = (tmp_path / "sweep.txt").read_text()
    assert "trial 0 is interrupted" in printed and "Traceback" not in printed
    assert printed.count(": the running trials finish their step and save; once more ends them at once") == 1
    (trial,) = list_trials(folder)
    assert (trial.state, trial.reason) == ("interrupted", "the sweep was interrupted")

    run_quick(folder, sweep, 2)
    trials = list_trials(folder)
    assert [trial.state for trial in trials] == ["finished", "finished"] and len(starts(trials[0])) == 2


def test_workers_share_a_sweep_without_running_a_trial_twice(tmp_path):
    folder, grid = tmp_path / "sweep", {"loss": {"values": list(range(1, 13))}}
    workers = [start_worker(folder, make_sweep("grid", parameters=grid), 12, 2) for _ in range(2)]
    assert exit_codes(workers, tmp_path / "sweep.txt") == [0, 0], (tmp_path / "sweep.txt").read_text()
    trials = list_trials(folder)
    assert [trial.parameters["loss"] for trial in trials] == list(range(1, 13))
    assert [len(starts(trial)) for trial in trials] == [1] * 12
    assert not os.listdir(folder / "workers")


def test_a_worker_that_was_silent_for_long_leaves_its_trial_to_the_one_that_took_it(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "sweep"
    sweep = make_sweep(parameters={"loss": {"value": 9}, "iterations": {"value": 200}, "pause": {"value": 0.1}})
    monkeypatch.setattr(runner, "BEAT_SECONDS", 0)
    launcher = LocalLauncher([{}])
    start = launcher.start

    def start_and_lose(command, trial_folder, environment):
        trial = start(command, trial_folder, environment)
        other = SweepStudy(folder, sweep, Worker(folder))
        other._set(0, worker=other._worker.name)
        return trial

    monkeypatch.setattr(launcher, "start", start_and_lose)
    run_quick(folder, sweep, 1, launcher=launcher)
    assert "trial 0 was taken over by another worker" in capsys.readouterr().out
    assert not marked_processes(folder) and list_trials(folder)[0].state == "running"
