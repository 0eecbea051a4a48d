"""Runs that a report is made of."""

import pytest

from tests.report.made_run import make_run, make_set


@pytest.fixture
def data(tmp_path, monkeypatch):
    """The set of the runs; its class names are not made for HTML."""
    folder = make_set(tmp_path / "set")
    monkeypatch.setenv("TINY_SET", str(folder))
    return folder


@pytest.fixture
def run(tmp_path, data, monkeypatch):
    """A finished run of 40 iterations with two evaluations."""
    return make_run(tmp_path / "run", monkeypatch)
