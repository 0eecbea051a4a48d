"""The record of trials: who may run which, early stopping, and what crashes leave."""

import json
import multiprocessing
import os
import signal
import socket
import threading
import time

import pytest
from filelock import SoftFileLease

from tests.patience import PATIENCE, exit_codes
from tests.sweeps.quick_sweep import make_sweep
from xray_lazy.errors import UserError
from xray_lazy.sweeps import study as study_module
from xray_lazy.sweeps.hyperband import should_stop
from xray_lazy.sweeps.lease import Lease
from xray_lazy.sweeps.study import ATTEMPTS, JOURNAL, SweepStudy, list_trials, trial_folder
from xray_lazy.sweeps.sweep_file import EarlyTerminate, Metric
from xray_lazy.sweeps.workers import STALE_SECONDS, Worker, is_alive

BAYES = {
    "optimizer.lr": {"distribution": "log_uniform_values", "min": 1e-5, "max": 1e-1},
    "batch": {"values": [2, 4, 8]},
    "width": {"distribution": "q_normal", "mu": 50, "sigma": 10},
}


def open_study(folder, sweep=None, worker=None):
    return SweepStudy(folder, sweep or make_sweep(), worker or Worker(folder))


def dead_worker(folder):
    """A worker whose process is gone, but not its file."""
    worker = Worker(folder)
    host, _, token = worker.name.split(":")
    path = folder / "workers" / worker.name
    worker.name = f"{host}:{2**22 + 1}:{token}"
    path.rename(path.with_name(worker.name))
    return worker


def run_trials(study, count):
    """Claim trials up to `count`, and finish each with a loss of its own."""
    while claim := study.claim(count):
        settings = claim.trial.parameters
        loss = abs(settings["optimizer.lr"] - 0.01) * 10 + abs(settings["batch"] - 4) + abs(settings["width"] - 60) / 10
        study.finish(claim.trial.number, loss)
    return [trial.parameters for trial in study.trials()]


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_a_sweep_that_is_resumed_samples_as_one_that_was_not(tmp_path, sampler):
    count = 14 if sampler == "tpe" else 7
    sweep = make_sweep("bayes", parameters=BAYES, optuna={"sampler": sampler, "seed": 5})
    for name in ("at_once", "resumed"):
        (tmp_path / name).mkdir()
    whole = run_trials(open_study(tmp_path / "at_once", sweep), count)
    run_trials(open_study(tmp_path / "resumed", sweep), count // 2)
    assert run_trials(open_study(tmp_path / "resumed", sweep), count) == whole
    assert len({json.dumps(parameters) for parameters in whole}) == count


def test_another_seed_samples_other_values(tmp_path):
    found = []
    for seed in (0, 1):
        (tmp_path / str(seed)).mkdir()
        sweep = make_sweep(parameters=BAYES, optuna={"seed": seed})
        found.append(run_trials(open_study(tmp_path / str(seed), sweep), 1))
    assert found[0] != found[1]


def test_bayes_gets_nearer_to_the_best_than_random(tmp_path):
    losses = {}
    for method in ("bayes", "random"):
        (tmp_path / method).mkdir()
        study = open_study(tmp_path / method, make_sweep(method, parameters=BAYES))
        run_trials(study, 40)
        losses[method] = sum(trial.value for trial in study.trials()[20:])
    assert losses["bayes"] < 0.7 * losses["random"]


def test_the_count_is_over_all_workers(tmp_path):
    one, other = open_study(tmp_path), open_study(tmp_path)
    numbers = [study.claim(3).trial.number for study in (one, other, one)]
    assert numbers == [0, 1, 2] and other.claim(3) is None


def test_a_trial_of_a_living_worker_is_left_alone_and_that_of_a_dead_one_is_gone_on_with(tmp_path):
    living, dead = open_study(tmp_path), open_study(tmp_path, worker=dead_worker(tmp_path))
    living.claim(2)
    lost = dead.claim(2).trial
    dead.set_process(lost.number, "somewhere:1")
    assert [trial.state for trial in list_trials(tmp_path)] == ["running", "interrupted"]
    claim = open_study(tmp_path).claim(2)
    assert (claim.trial.number, claim.leftover) == (1, "somewhere:1")
    assert claim.trial.parameters == lost.parameters and claim.trial.state == "running"
    assert open_study(tmp_path).claim(2) is None


def test_a_trial_that_takes_its_workers_down_is_given_up(tmp_path):
    for _ in range(ATTEMPTS):
        assert open_study(tmp_path, worker=dead_worker(tmp_path)).claim(1).trial.number == 0
    assert open_study(tmp_path).claim(1) is None
    (trial,) = list_trials(tmp_path)
    assert trial.state == "killed" and f"{ATTEMPTS} attempts" in trial.reason


def test_an_interrupted_trial_may_go_on_ever_again(tmp_path):
    for _ in range(ATTEMPTS + 2):
        study = open_study(tmp_path)
        assert study.claim(1).trial.number == 0
        study.interrupt(0)
    assert list_trials(tmp_path)[0].state == "interrupted"


def test_a_worker_that_dies_once_after_interruptions_loses_no_trial(tmp_path):
    for _ in range(ATTEMPTS):
        study = open_study(tmp_path)
        study.claim(1)
        study.interrupt(0)
    open_study(tmp_path, worker=dead_worker(tmp_path)).claim(1)
    assert open_study(tmp_path).claim(1).trial.number == 0


def test_a_worker_that_died_before_it_chose_all_parameters_loses_no_trial(tmp_path):
    sweep = make_sweep("grid", parameters={"loss": {"values": [1, 2]}, "end": {"values": ["a", "b"]}})
    journal, whole = tmp_path / JOURNAL, tmp_path / "whole"
    whole.mkdir()
    run_all = open_study(whole, sweep)
    expected = [run_all.claim(4).trial.parameters for _ in range(4)]
    open_study(tmp_path, sweep, dead_worker(tmp_path)).claim(4)
    lines = journal.read_text().splitlines(keepends=True)
    for kept in range(2, len(lines) + 1):
        journal.write_text("".join(lines[:kept]))
        study = open_study(tmp_path, sweep)
        assert [study.claim(4).trial.parameters for _ in range(4)] == expected
        assert study.claim(4) is None


def test_half_a_line_that_a_crash_left_is_dropped_also_by_workers_that_go_on(tmp_path):
    study = open_study(tmp_path)
    for value, worker in enumerate([study, study, open_study(tmp_path)]):
        worker.finish(worker.claim(3).trial.number, value)
        with open(tmp_path / JOURNAL, "ab") as journal:
            journal.write(b'{"op_code":4,"worker_id":"half')
    assert [trial.value for trial in list_trials(tmp_path)] == [0.0, 1.0, 2.0]


@pytest.mark.parametrize("kept", [0, 1])
def test_a_sweep_whose_record_was_lost_is_refused(tmp_path, kept):
    study = open_study(tmp_path)
    for number in range(2):
        trial_folder(tmp_path, study.claim(2).trial.number).mkdir(parents=True)
        study.finish(number, 1.0)
    journal = (tmp_path / JOURNAL).read_text()
    second = journal.index("op_code", journal.index('"trial_id":0,"state"'))
    (tmp_path / JOURNAL).write_text(journal[: second * kept])
    with pytest.raises(UserError, match=f"lost {2 - kept} trials? whose runs are there, the first one in .*000{kept}"):
        open_study(tmp_path)


@pytest.mark.parametrize("damage", [b"notes\n", b"\xff\n", b"5\n", b"{}\n", b"\0\0\n"])
def test_a_record_with_a_line_that_is_none_is_an_error_of_the_user(tmp_path, damage):
    open_study(tmp_path).claim(1)
    content = (tmp_path / JOURNAL).read_bytes()
    (tmp_path / JOURNAL).write_bytes(damage + content)
    for read in (open_study, list_trials):
        with pytest.raises(UserError, match="the record of the sweep's trials, is damaged"):
            read(tmp_path)


def test_a_worker_is_known_to_be_dead_by_its_process_its_silence_or_its_farewell(tmp_path):
    worker = Worker(tmp_path)
    assert is_alive(tmp_path, worker.name)
    assert not is_alive(tmp_path, dead_worker(tmp_path).name)
    path = tmp_path / "workers" / "elsewhere:1:aa"
    path.touch()
    assert is_alive(tmp_path, path.name)
    os.utime(path, (0, time.time() - STALE_SECONDS - 5))
    assert not is_alive(tmp_path, path.name)
    worker.close()
    assert not is_alive(tmp_path, worker.name) and socket.gethostname() in worker.name


def test_a_folder_without_a_sweep_has_no_trials(tmp_path):
    assert list_trials(tmp_path) == [] and list_trials(tmp_path / "nowhere") == []


def left_lock(path, seconds):
    """The file of a lock whose owner was killed."""

    def die():
        lock = Lease(path, seconds)  # released where nobody keeps it
        lock.acquire()
        os.kill(os.getpid(), signal.SIGKILL)

    process = multiprocessing.get_context("fork").Process(target=die)
    process.start()
    assert exit_codes([process]) == [-signal.SIGKILL]
    return path.with_name(f"{path.name}.lock")


def test_a_lock_of_a_dead_process_blocks_nobody(tmp_path, monkeypatch):
    monkeypatch.setattr(study_module, "CLAIM_SECONDS", 3600)
    study = open_study(tmp_path)
    for path, seconds in ((tmp_path / "claim", 3600), (tmp_path / JOURNAL, study_module.JOURNAL_SECONDS)):
        left_lock(path, seconds)
    start = time.monotonic()
    assert study.claim(1).trial.number == 0
    assert time.monotonic() - start < 1800


def test_a_lock_of_a_silent_machine_is_broken_after_a_while(tmp_path, monkeypatch):
    monkeypatch.setattr(study_module, "CLAIM_SECONDS", 3)
    study = open_study(tmp_path)
    lock = left_lock(tmp_path / "claim", 3)
    lock.write_text(lock.read_text().replace(socket.gethostname(), "elsewhere"))
    start = time.monotonic()
    assert study.claim(1).trial.number == 0
    assert time.monotonic() - start > 2


@pytest.mark.parametrize("written", ["", "half of a rec", None], ids=["nothing", "a part", "all"])
def test_a_lock_whose_owner_was_killed_at_any_time_blocks_nobody(tmp_path, monkeypatch, written):
    path = tmp_path / "journal"
    lock = left_lock(path, 1)
    if written is not None:
        lock.write_text(written)
    else:  # on a network's file system filelock leaves it to whoever waits
        monkeypatch.setattr(SoftFileLease, "_try_break_stale_lock", lambda self: None)
    with Lease(path, 1):
        assert lock.stat().st_size > len(written or "")
    assert not lock.exists()


@pytest.mark.slow
def test_a_lock_is_kept_longer_than_others_wait_for_a_sign(tmp_path):
    path, events = tmp_path / "journal", []

    def wait():
        with Lease(path, 3):
            events.append("taken")

    with Lease(path, 3):
        other = threading.Thread(target=wait)
        other.start()
        time.sleep(8)
        events.append("released")
    other.join(PATIENCE)
    assert events == ["released", "taken"]


def count_up(path, times):
    for _ in range(times):
        with Lease(path, 30):
            number = int(path.read_text())
            time.sleep(0.001)
            path.write_text(str(number + 1))


def test_a_lock_is_held_by_one_process_at_a_time(tmp_path):
    path = tmp_path / "number"
    path.write_text("0")
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=count_up, args=(path, 20)) for _ in range(4)]
    for process in processes:
        process.start()
    assert exit_codes(processes) == [0] * 4
    assert path.read_text() == "80"
    assert [file.name for file in tmp_path.iterdir()] == ["number"]


STOP = EarlyTerminate(bands=(2, 4), eta=2)
FALLING = [[5, 4, 3, 2], [6, 5, 4, 3], [7, 6, 5, 4], [9, 8, 7, 6]]


@pytest.mark.parametrize(
    ("values", "stops"),
    [
        ([99], False),  # not at a band yet
        ([6, 4.5], False),  # among the better half
        ([7, 7], True),
        ([6, 4.5, 9], False),  # by the last band that it passed
        ([6, 4.5, 9, 9], True),
        ([1, 9, 9, 9], False),  # its best value counts
    ],
)
def test_trials_outside_of_the_best_part_are_stopped_at_bands(values, stops):
    assert should_stop(STOP, Metric("loss"), values, FALLING) == stops
    rising = [[-value for value in curve] for curve in FALLING]
    assert should_stop(STOP, Metric("AP", "maximize"), [-value for value in values], rising) == stops


def test_strict_stopping_looks_at_the_value_at_the_band():
    strict = EarlyTerminate(bands=(2, 4), eta=2, strict=True)
    assert should_stop(strict, Metric("loss"), [1, 9, 9, 9], FALLING)


@pytest.mark.parametrize(("trials", "eta", "kept"), [(6, 3, 2), (4, 3, 2), (3, 3, 1), (4, 2, 2), (5, 2, 3), (2, 3, 1)])
def test_as_many_trials_go_on_as_the_share_says(trials, eta, kept):
    curves = [[loss, loss] for loss in range(trials)]
    stop = EarlyTerminate(bands=(2,), eta=eta)
    stopped = [should_stop(stop, Metric("loss"), c, [o for o in curves if o is not c]) for c in curves]
    assert stopped == [False] * kept + [True] * (trials - kept)


def test_the_first_trial_is_never_stopped():
    assert not should_stop(STOP, Metric("loss"), [9, 9, 9, 9, 9], [])
