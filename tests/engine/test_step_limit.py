"""A step that hangs ends its process, with what the process was at; one that was stopped itself goes on."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from tests.patience import PATIENCE, wait_until
from xray_lazy.data.loaders import _workers
from xray_lazy.engine.processes import step_limit
from xray_lazy.engine.processes.step_limit import StepLimit, each_in_time


class StandingStill(torch.utils.data.Dataset):
    """Its reader stops at the third sample, when those before have come: as one does that waits for a disk."""

    def __init__(self, come):
        self._come = come

    def __len__(self):
        return 4

    def __getitem__(self, index):
        if index == 2:
            wait_until(self._come.exists)
            os.kill(os.getpid(), signal.SIGSTOP)
        return torch.zeros(1)


def read_all(come):
    step_limit.STEP_SECONDS, step_limit.SLOWER_THAN_EVER, step_limit.LOOK_SECONDS = 3, 0, 0.05
    loader = torch.utils.data.DataLoader(StandingStill(come), **_workers(1))
    for number, _ in enumerate(each_in_time("batch", loader)):
        print("read", number, flush=True)
        if number == 1:
            come.touch()


def test_a_lone_process_whose_reader_stands_still_ends_with_all_it_started(tmp_path):
    code = f"import pathlib, tests.engine.test_step_limit as t; t.read_all(pathlib.Path({str(tmp_path / 'come')!r}))"
    # the reader holds the pipes, too: their end is that of both
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE)
    assert answer.returncode == 1 and answer.stdout.splitlines() == ["read 0", "read 1"]
    assert "error: batch 3 has not ended in time: it hangs where the stacks below" in answer.stderr
    assert "each_in_time" in answer.stderr


@pytest.fixture
def limit(monkeypatch):
    monkeypatch.setattr(step_limit, "STEP_SECONDS", 5)
    monkeypatch.setattr(step_limit, "LOOK_SECONDS", 1)
    limit = StepLimit()
    with limit.step("iteration", 0):
        pass
    return limit


def test_only_looks_at_a_step_count(limit):
    assert not any(limit.look() for _ in range(9))
    with limit.step("iteration", 1):
        assert [limit.look() for _ in range(6)] == ["", "", "", "", "", "iteration 1"]
    assert not limit.look()


def test_time_in_which_nobody_looked_does_not_count(limit, monkeypatch):
    with limit.step("iteration", 1):
        monkeypatch.setattr(time, "monotonic", lambda now=time.monotonic: now() + 86400)
        assert not limit.look()


def test_a_step_may_take_some_times_what_the_slowest_took(limit):
    with limit.step("iteration", 1):
        assert not any(limit.look() for _ in range(2))
    with limit.step("iteration", 2):
        assert not any(limit.look() for _ in range(2 * step_limit.SLOWER_THAN_EVER))
        assert limit.look() == "iteration 2"


def test_the_first_step_of_a_kind_has_hours():
    limit = StepLimit()
    with limit.step("evaluation batch", 1):
        pass
    with limit.step("iteration", 0):
        looks = int(step_limit.FIRST_STEP_SECONDS / step_limit.LOOK_SECONDS)
        assert not any(limit.look() for _ in range(looks)) and limit.look()


@pytest.mark.parametrize("module", ["bdb", "code", "IPython.terminal.embed"])
def test_a_person_at_a_console_may_take_all_time(limit, module):
    namespace = {"__name__": module, "limit": limit}
    exec("def waiting():\n    return [limit.look() for _ in range(20)]", namespace)
    with limit.step("iteration", 1):
        assert not any(namespace["waiting"]())
        assert limit.look()
