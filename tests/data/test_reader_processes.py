"""Readers end at the word of the process that they read for, also where they were stopped."""

import os
import signal
import time

import pytest

from tests.patience import PATIENCE, wait_until
from xray_lazy.data.reader_processes import ReaderContext, listen_for_end, signals_held


def read(ready):
    listen_for_end()
    ready.set()
    time.sleep(PATIENCE)


@pytest.mark.parametrize("is_stopped", [False, True])
def test_a_reader_ends_at_once(is_stopped):
    context = ReaderContext()
    ready = context.Event()
    reader = context.Process(target=read, args=(ready,), daemon=True)
    with signals_held():
        reader.start()
    assert ready.wait(PATIENCE)
    if is_stopped:
        os.kill(reader.pid, signal.SIGSTOP)
        wait_until(lambda: os.waitid(os.P_PID, reader.pid, os.WSTOPPED | os.WNOHANG | os.WNOWAIT))
    reader.terminate()
    reader.join(PATIENCE / 2)
    assert reader.exitcode == 0
