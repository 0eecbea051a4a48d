"""tools/serve.py as a person starts and ends it."""

import os
import re
import signal
import socket
import sys
from pathlib import Path

import pytest
import requests

from tests.engine.quick_processes import run_tool, start_tool
from tests.patience import exit_codes, wait_until

TOOL = Path(__file__).parents[3] / "tools" / "serve.py"


def address_in(output, process):
    """Where the server says that it is, as soon as it does."""
    found = []

    def is_told():
        found.extend(re.findall(r"http://127\.0\.0\.1:\d+/", output.read_text() if output.exists() else ""))
        return found or not process.is_alive()

    wait_until(is_told)
    return found[0]


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM])
def test_it_serves_until_it_is_told_to_end_and_then_ends_in_order(run_folder, images, tmp_path, number):
    printed = [tmp_path / "out", tmp_path / "err"]
    flags = ["--port", 0, "--device", "cpu", "--corrections", tmp_path / "corrections", "--threshold", 0.1]
    process = start_tool([TOOL, run_folder, *flags], printed)
    try:
        address = address_in(printed[0], process)
        answer = requests.post(f"{address}api/detect", files={"files": images[0].open("rb")}, timeout=60)
        assert answer.json()["images"][0]["detections"]
        other = run_tool(TOOL, run_folder, *flags)
        assert other.returncode == 2 and "another process is writing results into" in other.stderr
    finally:
        os.kill(process.pid, number)
    assert exit_codes([process], *printed) == [0]
    assert printed[0].read_text().endswith("ended\n") and not printed[1].read_text()
    assert not (tmp_path / "corrections").exists(), "nothing was corrected"


def test_what_is_missing_is_told_before_the_model_is_loaded(run_tool_here, tmp_path, monkeypatch):
    assert "no model is given" in run_tool_here(TOOL).stderr
    with socket.create_server(("127.0.0.1", 0)) as taken:
        answer = run_tool_here(TOOL, tmp_path / "no_model", "--port", taken.getsockname()[1])
    assert answer.returncode == 2 and "can't listen on port" in answer.stderr
    monkeypatch.setitem(sys.modules, "fastapi", None)
    monkeypatch.setitem(sys.modules, "python_multipart", None)
    answer = run_tool_here(TOOL, tmp_path / "no_model")
    assert answer.returncode == 2 and "the server needs fastapi, python-multipart" in answer.stderr
    assert "pip install 'xray-lazy[serve]'" in answer.stderr


def test_thresholds_of_an_operating_point_are_those_of_its_classes(run_tool_here, run_folder, tmp_path):
    point = tmp_path / "operating_point.json"
    point.write_text('{"schema": 1, "thresholds": {"gun": 0.4}, "false_alarms": 0.1, "chosen_on": {}}')
    answer = run_tool_here(TOOL, run_folder, "--port", 0, "--operating-point", point)
    assert answer.returncode == 2 and "no threshold for knife" in answer.stderr
    point.write_text(point.read_text()[:-1] + ', "view_fusion": {"axis": "none"}}')
    answer = run_tool_here(TOOL, run_folder, "--port", 0, "--operating-point", point)
    assert answer.returncode == 2 and "the server looks at single images" in answer.stderr
