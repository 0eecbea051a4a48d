"""Claims: one owner at a time, whatever happens to the processes."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from tests.patience import PATIENCE
from xray_lazy.engine.output_folder import claims as claims_module
from xray_lazy.engine.output_folder.claims import Claims

# takes whatever is free of 40 names, one after the other, and says what it has done
WORK = """
import sys, time
from pathlib import Path
from xray_lazy.engine.output_folder.claims import Claims

folder = Path(sys.argv[1])
claims = Claims(folder)
print("ready", flush=True)
while not (folder / "go").exists():
    time.sleep(0.001)
for name in (f"model_{number}" for number in range(40)):
    claim = claims.take(name)
    if claim and not (folder / f"{name}.done").exists():
        time.sleep(0.005)
        with open(folder / f"{name}.done", "a") as stream:
            stream.write("done\\n")
    if claim:
        claim.release()
"""
HOLD = """
import sys, time
from pathlib import Path
from xray_lazy.engine.output_folder.claims import Claims

claim = Claims(Path(sys.argv[1]), heartbeat_seconds=0.05).take("model")
print("taken", flush=True)
time.sleep(600)
"""

# as the process of another machine sees itself, which goes on to renew its claim
ELSEWHERE = """
from xray_lazy.engine.output_folder import claims

claims._machine = lambda: "another one"
"""


def start(script, folder, **options):
    return subprocess.Popen([sys.executable, "-c", script, str(folder)], **options)


@contextmanager
def holding(script, folder):
    with start(script, folder, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "taken\n"
            yield process
        finally:
            process.kill()


@pytest.fixture
def owner(tmp_path):
    """A process that holds "model"."""
    with holding(HOLD, tmp_path) as process:
        yield process


@pytest.fixture
def owner_elsewhere(tmp_path):
    """The same, of another machine."""
    with holding(ELSEWHERE + HOLD, tmp_path) as process:
        yield process


def wait_for_renewal(claim):
    before, end = claim.stat().st_mtime_ns, time.monotonic() + PATIENCE
    while claim.stat().st_mtime_ns == before:
        assert time.monotonic() < end
        time.sleep(0.01)


def pretend_other_machine(folder):
    for path in folder.glob("*.claim*"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "machine": "another one"}))


def test_of_several_processes_each_name_has_one_that_does_it(tmp_path):
    processes = [start(WORK, tmp_path, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert [process.stdout.readline() for process in processes] == ["ready\n"] * 4
    (tmp_path / "go").touch()
    assert [process.wait(PATIENCE) for process in processes] == [0] * 4
    assert [(tmp_path / f"model_{number}.done").read_text() for number in range(40)] == ["done\n"] * 40
    assert not list(tmp_path.glob("*.claim*"))


def test_what_a_living_process_has_is_not_given_to_another(tmp_path, owner):
    claims = Claims(tmp_path, stale_seconds=0.2)
    for _ in range(10):
        assert claims.take("model") is None and claims.is_taken("model")
        time.sleep(0.05)


def test_what_a_living_process_of_another_machine_has_is_not_given_to_another(tmp_path, owner_elsewhere, monkeypatch):
    clock = SimpleNamespace(monotonic=lambda: clock.now, strftime=time.strftime, now=0.0)
    monkeypatch.setattr(claims_module, "time", clock)
    claims = Claims(tmp_path, stale_seconds=2)
    for _ in range(5):
        assert claims.take("model") is None
        clock.now += 1.9
        wait_for_renewal(tmp_path / "model.claim1")
    clock.now += 2
    owner_elsewhere.send_signal(signal.SIGKILL)
    owner_elsewhere.wait()
    assert claims.take("model") is None  # the time since the last renewal counts, which it sees now
    clock.now += 2
    assert claims.take("model") is not None


def test_what_a_killed_process_of_this_machine_had_is_free_at_once(tmp_path, owner):
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    claim = Claims(tmp_path).take("model")
    assert claim is not None and Claims(tmp_path).take("model") is None
    claim.release()
    assert not list(tmp_path.glob("*.claim*"))


def test_what_a_silent_process_of_another_machine_had_is_free_after_a_while_for_one(tmp_path, owner):
    pretend_other_machine(tmp_path)
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    waiting = [Claims(tmp_path, stale_seconds=0.3) for _ in range(3)]
    assert [claims.take("model") for claims in waiting] == [None] * 3
    time.sleep(0.4)
    # all find out at the same time, and the clock of the file system plays no part
    taken = [claim for claims in waiting if (claim := claims.take("model"))]
    assert len(taken) == 1
    taken[0].release()


def test_one_that_wakes_up_after_it_was_given_up_leaves_the_claim_of_the_next_one_alone(tmp_path):
    sleeper = Claims(tmp_path, heartbeat_seconds=600).take("model")
    pretend_other_machine(tmp_path)
    claims = Claims(tmp_path, stale_seconds=0.05)
    assert claims.take("model") is None
    time.sleep(0.1)
    new = claims.take("model")
    assert new is not None
    sleeper.release()
    assert Claims(tmp_path).take("model") is None
    new.release()
    assert Claims(tmp_path).take("model") is not None


def test_a_claim_that_is_still_being_written_counts(tmp_path):
    (tmp_path / "model.claim1").touch()
    assert Claims(tmp_path).take("model") is None


def test_a_claim_that_the_disk_keeps_does_not_hide_the_error_that_ends_a_run(tmp_path):
    with pytest.raises(ZeroDivisionError), Claims(tmp_path).take("model"):
        (path,) = tmp_path.iterdir()
        path.unlink()
        path.mkdir()  # neither read nor removed as a file, also by root
        raise ZeroDivisionError


def test_the_claim_tells_whose_it_is(tmp_path):
    with Claims(tmp_path).take("model"):
        (path,) = tmp_path.iterdir()
        owner = json.loads(path.read_text())
    assert owner["pid"] == os.getpid() and owner["host"] and owner["time"].startswith("20")
