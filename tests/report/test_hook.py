"""The report at the end of a training, which nothing of it can harm."""

import logging
import threading

from tests.engine.small_training import train_small
from tests.report.made_run import CONFIG
from xray_lazy.engine.hooks.evaluation import Evaluation
from xray_lazy.engine.run import RunOptions, run
from xray_lazy.report import write
from xray_lazy.report.hook import Report


def test_a_training_ends_with_its_report(tmp_path, data):
    folder = tmp_path / "trained"
    overrides = ["train.device=cpu", "train.max_iter=2", "train.eval_period=0", "hooks.report.enabled=True"]
    run(RunOptions(str(CONFIG), [f"train.output_dir={folder}", *overrides]))
    page = (folder / "report.html").read_text()
    assert "after 2 of 2 iterations" in page
    assert "could not be made" not in page


def test_a_report_that_fails_is_a_warning(tmp_path, caplog):
    hooks = {"evaluation": Evaluation(period=0), "report": Report()}
    with caplog.at_level(logging.WARNING):
        trainer = train_small(tmp_path / "run", hooks, 3, values={2: 1.0})  # a folder without config and metrics
    assert trainer.is_finished
    assert [r.message for r in caplog.records if "there is no report" in r.message]


def test_a_report_that_takes_too_long_is_left_out(run, caplog, monkeypatch):
    may_end = threading.Event()
    monkeypatch.setattr(write, "write_report", lambda folders: may_end.wait())
    with caplog.at_level(logging.WARNING):
        trainer = train_small(run, {"report": Report(time_limit=0.1)}, 3)
    assert trainer.is_finished and not (run / "report.html").exists()
    assert "takes longer than 0.1 s" in caplog.text
    may_end.set()
    for thread in threading.enumerate():
        if thread.name == "report":
            thread.join()  # a late one would write a real report during the next test


def test_an_interrupted_training_does_not_wait_for_a_report(run):
    class Interrupt(Report):
        def after_step(self):
            self.trainer.request_stop("the test says so")

    train_small(run, {"report": Interrupt()}, 5)
    assert not (run / "report.html").exists()


def test_it_can_be_switched_off(run):
    train_small(run, {"report": Report(enabled=False)}, 3)
    assert not (run / "report.html").exists()
