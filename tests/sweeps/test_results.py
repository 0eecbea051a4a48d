"""The result of a sweep: table, CSV and page."""

import csv
import dataclasses
import json
import re
from html.parser import HTMLParser

import pytest
from omegaconf import OmegaConf

from tests.sweeps.example_sweep import example_sweep, example_trials
from tests.sweeps.quick_sweep import QuickCommand, make_sweep
from xray_lazy.sweeps.local_launcher import LocalLauncher
from xray_lazy.sweeps.runner import SweepRunner
from xray_lazy.sweeps.study import SweepStudy
from xray_lazy.sweeps.sweep_console import SweepConsole
from xray_lazy.sweeps.sweep_results import format_results, rank, trial_table, write_results
from xray_lazy.sweeps.trial_metric import MetricSource
from xray_lazy.sweeps.workers import Worker

SWEEP = example_sweep()


@pytest.fixture
def trials(tmp_path):
    return example_trials(SWEEP, tmp_path)


def test_the_table_ranks_finished_trials_and_tells_why_others_have_no_value(trials):
    headers, rows = trial_table(SWEEP, trials)
    assert headers == ["trial", "state", "segm/AP", "lr", "total_batch_size", "max_norm", "freeze", "minutes", "reason"]
    values = [float(row[2]) for row in rows if row[1] == "finished"]
    assert len(values) == 15 and values == sorted(values, reverse=True)
    assert [row[1] for row in rows[15:]] == ["running", *["pruned"] * 3, "failed"]
    assert rows[-1][0] == "7" and rows[-1][-1] == "CUDA out of memory. Tried to allocate 2 GiB"
    assert rows[0][-2] == "7.5"


def test_what_is_to_be_minimized_is_ranked_the_other_way_round(trials):
    metric = dataclasses.replace(SWEEP.metric, goal="minimize")
    assert rank(metric, trials)[0].value == min(trial.value for trial in trials if trial.value is not None)


def test_the_console_shows_the_best_values_as_overrides_and_bounds_the_table(tmp_path):
    trials = example_trials(SWEEP, tmp_path, 60)
    text = format_results(SWEEP, trials)
    best = rank(SWEEP.metric, trials)[0]
    assert f"60 trials: 47 finished, 1 running, 11 pruned, 1 failed; best: trial {best.number} with segm/AP" in text
    assert f"optimizer.lr={best.parameters['optimizer.lr']} dataloader.train.total_batch_size=" in text
    assert "and 30 more in trials.csv" in text


def test_the_csv_has_all_parameters_by_key_with_all_digits(trials, tmp_path):
    write_results(tmp_path, SWEEP, trials)
    rows = list(csv.DictReader((tmp_path / "trials.csv").open()))
    assert [int(row["trial"]) for row in rows] == [trial.number for trial in rank(SWEEP.metric, trials)]
    for row in rows:
        trial = trials[int(row["trial"])]
        assert row["segm/AP"] == ("" if trial.value is None else str(trial.value))
        assert float(row["optimizer.lr"]) == trial.parameters["optimizer.lr"]
        assert row["train.freeze"] in ("null", '["backbone"]') and row["train.seed"] == "3"
        assert row["folder"] == str(trial.folder) and row["started"].startswith("2030-01-01T")


def test_the_page_fetches_nothing_and_its_figures_are_whole(trials, tmp_path):
    write_results(tmp_path, SWEEP, trials)
    page = _Page(tmp_path / "results.html")
    assert page.headings == ["History", "Parallel coordinates", "Slices", "Importances", "Learning curves", "Trials"]
    assert page.fetched == []
    assert len(page.figures) == 5 and set(page.templates) == {"light", "dark"}
    assert len(page.rows) == 1 + len(trials)


def test_text_of_the_sweep_cannot_break_the_page(trials, tmp_path):
    odd = "</script><script>alert(1)</script>"
    sweep = example_sweep(name=odd, metric={"name": odd, "goal": "maximize"})
    trials[7] = dataclasses.replace(trials[7], reason=odd)
    write_results(tmp_path, sweep, trials)
    page = _Page(tmp_path / "results.html")
    assert len(page.scripts) == 2 and len(page.figures) == 5
    assert page.figures[0]["layout"]["yaxis"]["title"]["text"] == odd


def test_what_there_are_too_few_trials_for_is_said(trials, tmp_path):
    write_results(tmp_path, SWEEP, trials[:4])
    text = (tmp_path / "results.html").read_text()
    assert "They need 8 finished trials" in text
    write_results(tmp_path, SWEEP, [dataclasses.replace(trials[0], state="failed", value=None)])
    assert "They come with the first finished trial" in (tmp_path / "results.html").read_text()


def test_a_trial_that_has_no_parameters_yet_is_in_the_table(trials, tmp_path):
    trials.append(dataclasses.replace(trials[-1], number=20, parameters={}, intermediate_values={}))
    write_results(tmp_path, SWEEP, trials)
    assert len(_Page(tmp_path / "results.html").rows) == 22


def test_a_sweep_has_them_after_each_trial(tmp_path):
    sweep, worker, rows = make_sweep(), Worker(tmp_path), []

    def keep(trials):
        write_results(tmp_path, sweep, trials)
        rows.append([row["state"] for row in csv.DictReader((tmp_path / "trials.csv").open())])

    with SweepConsole(sweep) as console:
        metric = MetricSource(sweep.metric, OmegaConf.create({"writers": {}}))
        study, launcher = SweepStudy(tmp_path, sweep, worker), LocalLauncher([{}])
        SweepRunner(study, worker, launcher, QuickCommand(), metric, console, keep).run(3)
    assert rows == [["finished"], ["finished"] * 2, ["finished"] * 3]


class _Page(HTMLParser):
    """What a browser would find: headings, rows of tables, scripts, figures, and what it would have to fetch."""

    def __init__(self, path):
        super().__init__()
        self.headings, self.rows, self.scripts, self.fetched, self._open = [], [], [], [], ""
        self.feed(path.read_text(encoding="utf-8"))
        end = self.scripts[-1]
        self.figures = json.loads(re.search(r"^const figures = (.*);$", end, flags=re.MULTILINE)[1])
        self.templates = json.loads(re.search(r"^const templates = (.*);$", end, flags=re.MULTILINE)[1])

    def handle_starttag(self, tag, attrs):
        self._open = tag
        self.fetched += [value for name, value in attrs if name in ("src", "href")]
        if tag == "tr":
            self.rows.append("")
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data):
        if self._open == "h2":
            self.headings.append(data.strip()) if data.strip() else None
        if self._open == "script":
            self.scripts[-1] += data

    def handle_endtag(self, tag):
        self._open = ""
