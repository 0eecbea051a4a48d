"""tools/sweep.py as a person uses it: what is refused before anything starts, and a sweep that is killed."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch

from tests.engine.quick_processes import run_tool, start_tool
from tests.patience import wait_until
from xray_lazy.config import get_config, load_config
from xray_lazy.data.dataset_places import scanner_of
from xray_lazy.errors import RunFailure, UserError
from xray_lazy.sweeps.local_launcher import LocalLauncher
from xray_lazy.sweeps.run_sweep import SweepOptions, run_sweep, trial_limit
from xray_lazy.sweeps.runner import SweepRunner
from xray_lazy.sweeps.space_check import space_faults, without_odd_batches
from xray_lazy.sweeps.study import JOURNAL, list_trials, trial_folder
from xray_lazy.sweeps.sweep_file import parse_sweep, read_sweep

ROOT = Path(__file__).parents[2]
TOOL = ROOT / "tools" / "sweep.py"
CONFIG = ROOT / "tests" / "engine" / "tiny.py"
READY = {
    "mask_rcnn_bayes": "xray/mask_rcnn_r50.py",
    "mask_rcnn_mask_ap": "xray/mask_rcnn_r50.py",
    "across_scanners": "xray/mask_rcnn_r50.py",
    "sparse_rcnn_bayes": "xray/sparse_rcnn_r50.py",
}
SWEEP = """
method: grid
metric: {name: total_loss}
parameters:
  train.max_iter: {values: [2, 8, 3]}
  dataloader.train.total_batch_size: {values: [2]}
"""
# the tiny model's training alone, without evaluation; the long trial waits at an iteration until it is ended
LEAN = ["train.eval_period=0", "train.checkpointer.period=3", "~hooks.prediction_pictures", "~writers.tensorboard"]
LEAN += ["~hooks.evaluation", "+hooks.hold={_target_: tests.cluster.hooks_for_jobs.HoldAt, iteration: 5}"]


@pytest.fixture
def sweep_file(tmp_path):
    path = tmp_path / "search.yaml"
    path.write_text(SWEEP)
    return path


@pytest.fixture
def options(environment, monkeypatch, sweep_file, tmp_path):
    monkeypatch.setenv("TINY_SET", environment["TINY_SET"])
    return SweepOptions(str(sweep_file), str(CONFIG), num_processes=1, output_dir=str(tmp_path / "sweep"))


def refused(options):
    with pytest.raises(UserError) as error:
        run_sweep(options)
    assert not Path(options.output_dir).exists()
    return str(error.value)


@pytest.mark.parametrize(
    ("given", "told"),
    [(["broken.json"], "not broken.json"), ([], "not nothing"), (["a.yaml", "b.yml"], "not a.yaml, b.yml")],
)
def test_what_is_no_single_sweep_file_is_named(run_tool_here, given, told):
    answer = run_tool_here(TOOL, *given, "--config-file", CONFIG, "train.max_iter=2")
    assert answer.returncode == 2 and "ends in .yaml" in answer.stderr and answer.stderr.endswith(f"{told}\n")


def test_a_mistyped_parameter_is_refused_with_a_suggestion(environment, sweep_file, tmp_path):
    sweep_file.write_text(SWEEP.replace("train.max_iter", "train.max_itr"))
    words = (sweep_file, "--config-file", CONFIG, "--output-dir", tmp_path / "sweep")
    answer = run_tool(TOOL, *words, environment=environment)
    assert answer.returncode == 2 and "Traceback" not in answer.stderr
    assert "there is no key train.max_itr" in answer.stderr and "did you mean train.max_iter" in answer.stderr
    assert not (tmp_path / "sweep").exists()


def test_all_faults_of_a_space_are_reported_together(options, sweep_file):
    sweep_file.write_text(
        """
method: random
metric: {name: total_loss}
parameters:
  optimizer.lrr: {min: 0.0, max: 0.1}
  optimizer.weight_decay: {min: 0, max: 1}
  optimizer.lr: {values: [0.1, fast]}
  train.max_iter: {distribution: uniform, min: 2.0, max: 3.0}
  train.output_dir: {values: [a, b]}
  train.seed: {values: [1, 2]}
"""
    )
    options.overrides = ["train.seed=3"]
    text = refused(options)
    for words in (
        "6 faults",
        "parameters.optimizer.lrr: there is no key optimizer.lrr",
        "write min: 0.0",
        "'fast' of type str doesn't fit",
        "2.5 of type float doesn't fit",
        "each trial has an output folder of its own",
        "parameters.train.seed: it is given as an override for all trials, too",
    ):
        assert words in text


def test_a_parameter_that_no_trial_heeds_is_refused(options, sweep_file):
    dtype = "  train.amp.dtype: {values: [float16, bfloat16]}\n"
    sweep_file.write_text(SWEEP + dtype)
    text = refused(options)
    assert "parameters.train.amp.dtype: it has no effect while train.amp.enabled is False" in text
    assert "add train.amp.enabled=True to the command, or leave it out" in text
    sweep_file.write_text(SWEEP + dtype + "  train.amp.enabled: {value: false}\n")
    assert "it has no effect while train.amp.enabled is False" in refused(options)


def test_a_parameter_that_some_trials_heed_is_searched(options, sweep_file, caplog):
    idle = ["train.clip_gradients.enabled=False", "train.clip_gradients.max_norm=5"]
    options.dry_run, options.overrides = True, idle
    dtype = "  train.amp.dtype: {values: [float16, bfloat16]}\n"
    for switch in ("train.amp.enabled: {values: [true, false]}", "train.amp.enabled: {value: true}"):
        sweep_file.write_text(SWEEP + dtype + f"  {switch}\n")
        assert run_sweep(options) == 0
    assert "train.clip_gradients.max_norm has no effect while train.clip_gradients.enabled is False" in caplog.text


def test_a_sweep_without_an_end_wants_a_count(options, sweep_file):
    sweep_file.write_text(SWEEP.replace("grid", "random"))
    assert "say how many trials: --count" in refused(options)
    random = parse_sweep({"method": "random", "metric": {"name": "a"}, "parameters": {"b": {"values": [1, 2]}}}, "")
    assert trial_limit(random, 7) == 7


def test_missing_data_is_found_before_the_first_trial(options):
    options.overrides = ["dataloader.train.dataset.names=xray_nowhere_train"]
    assert "xray_nowhere_train" in refused(options)


def test_data_of_every_listed_value_is_looked_for(options, sweep_file, environment):
    present = f"{{json_file: {environment['TINY_SET']}/annotations.json, image_root: {environment['TINY_SET']}/images}}"
    key = "dataloader.train.dataset.names"
    sweep_file.write_text(SWEEP + f"  {key}: {{values: [{present}, xray_nowhere_train]}}\n")
    assert "xray_nowhere_train" in refused(options)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("bbox/PA", "metric.name: no evaluation gives bbox/PA"),
        ("val/screening/P_D@7", "metric.name: no evaluation gives screening/P_D@7"),
        ("segm/APl", "metric.name: segm/APl would have no value in any evaluation: tiny has no large item"),
    ],
)
def test_a_metric_that_no_trial_would_have_is_refused(options, sweep_file, name, words):
    sweep_file.write_text(SWEEP.replace("total_loss", f"{name}, goal: maximize"))
    assert words in refused(options)


def test_each_listed_metric_of_a_hook_is_looked_at(options, sweep_file):
    sweep_file.write_text(SWEEP + "  hooks.best_checkpoint.metric: {values: [bbox/AP, segm/AP, bbox/PA]}\n")
    assert "hooks.best_checkpoint.metric: no evaluation gives bbox/PA" in refused(options)


def test_a_dry_run_shows_the_space_and_a_trial_that_could_be_started(options, capsys):
    options.dry_run, options.overrides = True, ["optimizer.lr=0.01"]
    assert run_sweep(options) == 0
    printed = capsys.readouterr().out
    assert "train.max_iter                     2, 8, 3" in printed and "3 combinations" in printed
    assert "lazy_train.py --config-file" in printed and "--resume optimizer.lr=0.01 train.max_iter=8" in printed
    assert not Path(options.output_dir).exists()


def test_a_batch_that_is_no_number_is_a_fault(options, sweep_file):
    sweep_file.write_text(SWEEP.replace("values: [2]", "values: [2, eight]"))
    assert "'eight' of type str doesn't fit" in refused(options)


def test_the_file_that_the_metric_is_read_from_is_needed(options):
    options.overrides = ["~writers.json"]
    assert "writers.json: the config has no such writer" in refused(options)


def test_more_gpus_than_there_are_is_a_user_error(options):
    options.num_processes, options.num_gpus = None, torch.cuda.device_count() + 1
    assert "but this machine has" in refused(options)


def test_batches_that_processes_cannot_share_are_left_out():
    sweep, cfg = read_sweep(ROOT / "configs/sweeps/mask_rcnn_bayes.yaml"), get_config("xray/mask_rcnn_r50.py")
    even, odd = without_odd_batches(sweep, cfg, 4)
    assert odd == [2] and even.parameters["dataloader.train.total_batch_size"].values == (4, 8)
    assert without_odd_batches(sweep, cfg, 2) == (sweep, [])


@pytest.mark.parametrize("name", READY)
def test_ready_sweeps_fit_their_configs(name, monkeypatch):
    monkeypatch.setattr("xray_lazy.sweeps.space_check.check_experiment", lambda cfg, world_size: [])  # wants the data
    monkeypatch.setattr("xray_lazy.sweeps.space_check.check_metric", lambda *of: [])
    assert space_faults(read_sweep(ROOT / "configs/sweeps" / f"{name}.yaml"), get_config(READY[name]), [], 1) == []


def test_every_ready_sweep_has_its_config():
    assert {path.stem for path in (ROOT / "configs/sweeps").glob("*.yaml")} == set(READY)


def test_the_sweep_across_scanners_trains_on_each_and_on_all_but_one_and_tests_on_all():
    parameters = read_sweep(ROOT / "configs/sweeps/across_scanners.yaml").parameters
    trained = parameters["dataloader.train.dataset.names"].values
    (tested,) = parameters["dataloader.test.dataset.names"].values
    scanners = {scanner_of(name) for name in tested}
    rows = [{scanner_of(name) for name in names} for names in trained]
    assert [{one} for one in scanners if {one} not in rows] == []
    assert [scanners - {one} for one in scanners if scanners - {one} not in rows] == []
    assert len(rows) == 2 * len(scanners)


def test_a_sweep_whose_trials_all_fail_is_a_failure_with_its_table_written(options, tmp_path):
    class Crashing(LocalLauncher):
        def start(self, command, folder, environment):
            return super().start([sys.executable, "-c", "raise SystemExit(1)"], folder, environment)

    options.overrides, options.output_dir, options.count = LEAN, str(tmp_path / "sweep"), 2
    for _ in range(2):  # also where the folder has all trials already
        with pytest.raises(RunFailure, match=r"in .*sweep: 2 trials failed, the last one: exit code 1"):
            run_sweep(options, Crashing([{}]))
    assert (tmp_path / "sweep" / "trials.csv").read_text().count("failed") == 2


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_sweep_is_killed_resumed_and_ends_with_its_results(environment, options, tmp_path, capsys, processes):
    folder, output = tmp_path / "my sweep", tmp_path / "output.txt"
    words = [options.sweep_file, "--config-file", CONFIG, "--num-processes", processes, "--trials-in-parallel", 2]
    words += [*LEAN, "--output-dir", folder]
    sweep = start_tool([TOOL, *words], [output, output], environment)
    quick, long = folder / "trials/0000", folder / "trials/0001"

    def is_to_be_killed():
        return (long / "held").exists() and list_trials(folder)[0].state == "finished"

    wait_until(lambda: is_to_be_killed() or not sweep.is_alive())
    assert sweep.is_alive(), output.read_text()
    sweep.kill()
    sweep.join()
    finished_at = (quick / "model_final.pth").stat().st_mtime_ns
    assert not (long / "model_final.pth").exists()

    answer = run_tool(TOOL, *words, environment=environment)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    trials = list_trials(folder)
    assert [(trial.state, trial.parameters["train.max_iter"]) for trial in trials] == [
        ("finished", 2),
        ("finished", 8),
        ("finished", 3),
    ]
    assert (quick / "model_final.pth").stat().st_mtime_ns == finished_at and "trial 0 " not in answer.stdout
    assert "trial 1 goes on" in answer.stdout
    assert list(trials[1].intermediate_values) == list(range(8))
    assert trials[1].value == trials[1].intermediate_values[7]
    assert json.loads((long / "run.json").read_text())["world_size"] == processes

    table = (folder / "trials.csv").read_text()
    assert table.count("finished") == 3 and (folder / "results.html").stat().st_size > 100_000
    best = min(trials, key=lambda trial: trial.value)
    assert load_config(folder / "best_config.yaml").train.max_iter == best.parameters["train.max_iter"]
    assert f"best: trial {best.number}" in answer.stdout

    options.num_processes, options.trials_in_parallel, options.output_dir = processes, 2, str(folder)
    options.overrides = LEAN
    assert run_sweep(options) == 0 and "started:" not in capsys.readouterr().out
    moved = folder.rename(folder.with_name("moved"))
    shutil.rmtree(trial_folder(moved, best.number))
    options.output_dir = str(moved)
    assert run_sweep(options) == 0 and "the best trial's folder" in capsys.readouterr().out
    options.overrides = [*LEAN, "optimizer.lr=0.5"]
    with pytest.raises(UserError, match=r"holds another sweep:\n    optimizer.lr: "):
        run_sweep(options)


def test_a_sweep_whose_record_was_lost_keeps_its_results(options, monkeypatch):
    folder = Path(options.output_dir)

    def finish_all(runner, limit):
        while claim := runner._study.claim(limit):
            claim.trial.folder.mkdir(parents=True)
            runner._study.finish(claim.trial.number, 1.0)

    monkeypatch.setattr(SweepRunner, "run", finish_all)
    assert run_sweep(options) == 0
    (folder / JOURNAL).unlink()
    before = {path: path.read_bytes() for path in folder.glob("*.*")}
    with pytest.raises(UserError, match="has lost 3 trials whose runs are there"):
        run_sweep(options)
    (folder / JOURNAL).unlink()
    assert before == {path: path.read_bytes() for path in folder.glob("*.*")} and not any(
        (folder / "workers").iterdir()
    )
