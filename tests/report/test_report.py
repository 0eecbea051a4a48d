"""What a report says of a run, and of one that lacks something."""

import errno
import json
import re
import shutil
from html.parser import HTMLParser
from types import SimpleNamespace

import pytest

from tests.report.made_run import CLASSES, ROOT, evaluate, logged, make_run
from xray_lazy.config import load_config
from xray_lazy.errors import UserError
from xray_lazy.report.result_blocks import _significance
from xray_lazy.report.review import Reviews, load_dataset
from xray_lazy.report.run_files import read_run
from xray_lazy.report.write import make_tabs, write_report

TABS = ("overview", "curves", "results", "errors", "screening", "images", "data", "speed", "config", "environment")


class Page(HTMLParser):
    """The text of each part of a page, its elements, and where they lead."""

    def __init__(self, path):
        super().__init__()
        self.texts, self.elements, self.addresses, self._part = {}, [], [], ""
        self.html = path.read_text(encoding="utf-8")
        self.feed(self.html)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.elements.append((tag, attributes))
        self.addresses += [attributes[name] for name in ("src", "href") if attributes.get(name)]
        self._part = attributes["id"] if tag == "section" else self._part

    def handle_data(self, data):
        self.texts[self._part] = self.texts.get(self._part, "") + data


def blocks_of(folder, part):
    """The blocks of one tab."""
    return {tab.id: tab.blocks for tab in make_tabs([read_run(folder)])}[part]


def table(blocks, title):
    return next(block for block in blocks if block.kind == "table" and block.title == title)


def notes(blocks):
    return " ".join(f"{block.text} {block.fix}" for block in blocks if block.kind == "note")


def test_a_report_has_every_part_and_fetches_nothing(run):
    page = Page(write_report([run]))
    assert tuple(part for part in page.texts if part) == TABS
    assert all(address.startswith(("data:", "#")) for address in page.addresses)
    assert not re.search(r"url\(|@import|\bfetch\(|XMLHttpRequest", page.html)
    assert "could not be made" not in page.html


def test_the_best_evaluation_is_the_headline(run):
    values = {i: s["segm/AP"] for i, s in read_run(run).scores.items()}
    facts = {fact.label: fact for fact in blocks_of(run, "overview")[0].facts}
    assert facts["best mask AP"].value == f"{max(values.values()):.1f}"
    best = max(values, key=values.get) + 1
    assert facts["best mask AP"].note == f"after {best} of 40 iterations"
    assert facts["iterations"].note == "complete"


def test_a_model_that_finds_nothing_is_told_so_and_no_class_is_called_hard(tmp_path, data, monkeypatch):
    blind = make_run(tmp_path / "blind", monkeypatch, evaluations=(0.0,))
    (findings,) = (block for block in blocks_of(blind, "overview") if block.kind == "findings")
    told = " ".join(findings.sentences)
    assert "Nothing is found yet" in told and "hardest" not in told
    assert "nothing is found yet" in notes(blocks_of(blind, "errors"))
    assert "F1 is highest" not in notes(blocks_of(blind, "errors"))


def test_class_names_are_text_and_no_markup(run):
    page = Page(write_report([run]))
    assert CLASSES[0] in page.texts["results"]
    assert "<b>gun" not in page.html
    # neither in the JSON of charts
    charts = re.findall(r'<script type="application/json">(.*?)</script>', page.html)
    assert any(CLASSES[0] in [s["name"] for s in json.loads(chart)["series"]] for chart in charts)


def test_the_class_table_has_the_evaluation_s_numbers_and_best_thresholds(run):
    by_class = table(blocks_of(run, "results"), "By class")
    assert [row[0].text for row in by_class.rows] == list(CLASSES)
    ap = by_class.columns.index("mask AP")
    newest = read_run(run).evaluations[-1].metrics
    assert [row[ap].value for row in by_class.rows] == pytest.approx(
        [newest[f"segm/AP-{c}"] for c in CLASSES], abs=1e-3
    )
    assert all(0 < row[by_class.columns.index("at score")].value <= 1 for row in by_class.rows)


def test_what_differs_from_the_config_file_is_told_with_its_overrides(tmp_path, data, monkeypatch):
    folder = make_run(tmp_path / "other", monkeypatch, ["optimizer.lr=0.5"])
    rows = table(blocks_of(folder, "config"), "What differs from tiny.py").rows
    changed = {row[0].text: [cell.text for cell in row[1:]] for row in rows}
    assert changed["optimizer.lr"] == ["override", "0.02", "0.5"]
    assert changed["lr_multiplier.max_iter"] == ["", "4", "40"]
    assert "optimizer.momentum" not in changed


def test_secrets_are_not_in_the_page(tmp_path, data, monkeypatch):
    monkeypatch.setenv("MY_SERVICE_TOKEN", "very-secret-value")
    overrides = ["writers.wandb.notes='see very-secret-value'", "+train.api_key=abcdef123456"]
    page = write_report([make_run(tmp_path / "other", monkeypatch, overrides)]).read_text()
    assert "very-secret-value" not in page
    assert "abcdef123456" not in page
    assert "train.api_key" in page


def test_a_missing_data_set_costs_errors_and_images_only(run, data):
    shutil.rmtree(data)
    for part in ("errors", "images"):
        assert str(data) in notes(blocks_of(run, part))
    assert [row[0].text for row in table(blocks_of(run, "results"), "By class").rows] == list(CLASSES)
    assert "not at hand" in notes(blocks_of(run, "data"))


def test_missing_images_are_said_and_the_rest_is_there(run, data):
    shutil.rmtree(data / "images")
    (data / "images").mkdir()
    blocks = blocks_of(run, "images")
    assert "can't be shown" in notes(blocks)
    assert not [block for block in blocks if block.kind == "images"]
    assert [block for block in blocks_of(run, "errors") if block.kind == "matrix"]


def test_another_data_set_than_the_evaluated_one_is_noticed(run, data):
    content = json.loads((data / "annotations.json").read_text())
    for annotation in content["annotations"]:
        annotation["bbox"][0] += 15
        annotation["segmentation"] = [[x + 15 * (i % 2 == 0) for i, x in enumerate(annotation["segmentation"][0])]]
    (data / "annotations.json").write_text(json.dumps(content))
    assert "has changed since it was evaluated" in notes(blocks_of(run, "errors"))


def test_a_run_without_evaluation_or_record_has_a_report_all_the_same(run):
    shutil.rmtree(run / "evaluation")
    for name in ("run.json", "log.txt"):
        (run / name).unlink()
    (run / "metrics.json").write_text(json.dumps(logged(9)) + '\n{"iteration": 19, "total')
    page = Page(write_report([run]))
    assert "no evaluation" in page.texts["overview"]
    assert "There is no run.json" in page.texts["overview"]
    assert "no evaluation" in page.texts["results"]
    assert "could not be made" not in page.html


def test_an_interrupted_run_is_called_unfinished(tmp_path, data, monkeypatch):
    folder = make_run(tmp_path / "other", monkeypatch, evaluations=(0.5,), iterations=30, finished=False)
    assert "not finished: 30 of 40 iterations" in notes(blocks_of(folder, "overview"))


def test_damaged_files_are_said(run, caplog):
    (run / "run.json").write_text("{")
    (run / "config.yaml").write_text("model: [")
    (next(run.glob("evaluation/*/iter_19")) / "metrics.json").write_text("{")
    page = Page(write_report([run]))
    assert "run.json can't be read" in page.texts["overview"]
    assert "config.yaml can't be read" in page.texts["overview"]
    assert "could not be made" not in page.html
    for name in ("run.json", "config.yaml", "evaluation/tiny/iter_19/metrics.json"):
        assert f"{run / name} can't be read" in caplog.text


@pytest.mark.parametrize("content", [b"\x00\xff\n\x80", b'[1, "x"]\n', b'{"iteration": "x"}\n{"iteration": [3]}\n'])
def test_metrics_of_which_no_line_can_be_read_are_said(run, caplog, content):
    (run / "metrics.json").write_bytes(content)
    page = Page(write_report([run]))
    assert "metrics.json holds no line of metrics" in page.texts["overview"] and "could not be made" not in page.html


def test_damaged_detections_are_said(run, caplog):
    damaged = next(run.glob("evaluation/*/iter_39")) / "predictions.json"
    damaged.write_text("[{")
    page = Page(write_report([run]))
    assert str(damaged) in page.texts["errors"] and caplog.text.count(str(damaged)) == 1


def test_a_full_disk_is_no_fault_of_the_command(run, data, tmp_path, run_tool_here, monkeypatch):
    def refuse(path, text):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr("xray_lazy.report.write.write_text", refuse)
    answer = run_tool_here(ROOT / "tools" / "report.py", run, "--output", tmp_path / "page.html")
    assert answer.returncode == 1 and answer.stderr.startswith("error: the disk is full: ")


@pytest.mark.parametrize("name", ["run.json", "config.yaml", "metrics.json", "log.txt"])
def test_any_one_file_alone_may_be_missing(run, name):
    (run / name).unlink()
    assert "could not be made" not in write_report([run]).read_text()


def test_evaluations_of_averaged_weights_are_those_reported_where_they_are_the_best_metric(run):
    cfg = load_config(run / "config.yaml")
    evaluate(run, cfg, 39, 1.0)
    plain = run / "evaluation" / "tiny"
    shutil.rmtree(plain / "iter_19")
    (plain / "iter_39").rename(plain / "iter_39_EMA")
    lines = [json.loads(line) for line in (run / "metrics.json").read_text().splitlines()]
    lines = [{name.replace("segm/", "segm_EMA/"): value for name, value in line.items()} for line in lines]
    (run / "metrics.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert blocks_of(run, "overview")[0].facts[0].label == "best mask AP (EMA)"


def test_several_runs_stand_side_by_side(tmp_path, run, monkeypatch):
    better = make_run(tmp_path / "better", monkeypatch, ["optimizer.lr=0.5"], evaluations=(0.5, 1.0))
    page = write_report([run, better], tmp_path / "both.html")
    assert "could not be made" not in page.read_text()
    tabs = {tab.id: tab.blocks for tab in make_tabs([read_run(run), read_run(better)])}
    overview = table(tabs["overview"], "Runs")
    assert [row[0].text for row in overview.rows] == ["run", "better"]
    assert overview.rows[1][2].tone == "good" and overview.rows[1][2].text.startswith("+")
    changed = {
        row[0].text: [c.text for c in row[1:]] for row in table(tabs["config"], "What differs between the runs").rows
    }
    assert changed == {"optimizer.lr": ["0.02", "0.5"]}
    loss = next(c for b in tabs["curves"] if b.kind == "charts" for c in b.charts if c.title == "Loss")
    assert [series.name for series in loss.series] == ["run", "better"]
    assert table(tabs["results"], "Is better really different from run?").rows
    differing = next(block for block in tabs["images"] if block.title == "Where the runs differ most")
    assert [shot.caption.split(":")[0] for shot in differing.rows[0].shots] == ["ground truth", "run", "better"]


def test_runs_on_other_annotations_under_the_same_name_are_told_apart(tmp_path, run, monkeypatch):
    other = make_run(tmp_path / "other", monkeypatch)

    def about(digest):
        record = json.loads((other / "run.json").read_text())
        for folder, of_file in ((run, "1" * 64), (other, digest)):
            test = {"name": load_dataset(read_run(folder), "test").name, "files": {"annotations.json": of_file}}
            (folder / "run.json").write_text(json.dumps(record | {"datasets": {"test": test}}))
        tabs = {tab.id: tab.blocks for tab in make_tabs([read_run(run), read_run(other)])}
        return table(tabs["results"], "Best evaluations side by side").text

    assert "Mind" not in about("1" * 64)
    assert "Mind that their annotations of " in about("0" * 64)


def test_sets_that_were_evaluated_apart_are_said_to_be_one_where_runs_are_compared(run, monkeypatch):
    joined = "All sets are taken as one here"
    read = [read_run(run), read_run(run)]
    (compared,) = _significance(read, reviews := Reviews())
    assert joined not in compared.text
    parts = SimpleNamespace(parts=[1, 2])
    monkeypatch.setattr("xray_lazy.report.result_blocks._best", lambda _: parts)
    (compared,) = _significance(read, reviews)
    assert joined in compared.text


def test_runs_in_folders_of_the_same_name_are_told_apart(tmp_path, data, monkeypatch):
    folders = [make_run(tmp_path / place / "run", monkeypatch, evaluations=()) for place in "ab"]
    page = Page(write_report(folders))
    assert "a/run and b/run" in page.html


def test_a_long_run_s_curves_are_thinned(run):
    lines = [logged(iteration) for iteration in range(0, 50_000, 5)]
    (run / "metrics.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    page = write_report([run])
    assert page.stat().st_size < 2 * 2**20
    charts = re.findall(r'<script type="application/json">(.*?)</script>', page.read_text())
    loss = next(c for c in map(json.loads, charts) if c["title"] == "Loss")["series"][0]
    assert len(loss["x"]) <= 400
    assert loss["x"][-1] == 49_996


@pytest.mark.parametrize("make", ["nothing", "empty"])
def test_what_is_no_run_is_a_clear_error(tmp_path, make):
    folder = tmp_path / "folder"
    if make == "empty":
        folder.mkdir()
    with pytest.raises(UserError, match="folder"):
        write_report([folder])


def test_the_tool_writes_the_file_that_is_asked_for(run, data, tmp_path, run_tool_here):
    answer = run_tool_here(ROOT / "tools" / "report.py", run, "--output", tmp_path / "page.html")
    assert answer.returncode == 0, answer.stderr
    assert "page.html" in answer.stdout
    assert (tmp_path / "page.html").is_file() and not (run / "report.html").exists()


def test_a_report_replaces_a_report_and_nothing_else(run, tmp_path):
    write_report([run], tmp_path / "mine.html")
    write_report([run], tmp_path / "mine.html")
    (tmp_path / "notes.html").write_text("<!doctype html>mine")
    for other in (tmp_path / "notes.html", run / "config.yaml"):
        before = other.read_bytes()
        with pytest.raises(UserError, match="is there already, and is not a report"):
            write_report([run], other)
        assert other.read_bytes() == before
