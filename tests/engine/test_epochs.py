"""Epochs become iterations; samplers and resume. The set has 8 images, a batch 2: an epoch is 4 iterations."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.engine.conftest import CONFIG
from xray_lazy.config import apply_overrides, load_config
from xray_lazy.engine.epochs import iterations_per_epoch, resolve_epochs, to_iterations
from xray_lazy.engine.run import RunOptions, run
from xray_lazy.errors import UserError

BALANCE = "xray_lazy.data.balance"
WITHOUT_EVALUATION = ["~hooks.evaluation", "~hooks.prediction_pictures"]


@pytest.fixture(scope="module")
def tiny(tiny_set):
    return load_config(CONFIG)


def resolved(tiny, *overrides):
    cfg = apply_overrides(tiny, overrides)
    return cfg, resolve_epochs(cfg, {text.partition("=")[0] for text in overrides})


def iterations_of(folder):
    return [json.loads(line)["iteration"] for line in (folder / "metrics.json").read_text().splitlines()]


def test_lengths_in_epochs_become_iterations(tiny):
    periods = ("train.eval_period=1 epoch", "train.checkpointer.period=0.5 epochs", "train.log_period=0.1 epochs")
    cfg, faults = resolved(tiny, "train.max_epochs=3", *periods, "lr_multiplier.warmup_iters=0.25 epochs")
    assert faults == []
    assert (cfg.train.max_iter, cfg.train.max_epochs) == (12, 3)
    assert (cfg.train.eval_period, cfg.train.checkpointer.period, cfg.train.log_period) == (4, 2, 1)
    assert cfg.lr_multiplier.warmup_iters == 1 and cfg.lr_multiplier.max_iter == 12
    assert (cfg.hooks.evaluation.period, cfg.hooks.write_events.period) == (4, 1)


def test_iterations_stay_as_they_are(tiny):
    assert resolved(tiny) == (tiny, [])


def test_what_is_resolved_resolves_to_itself(tiny):
    cfg, _ = resolved(tiny, "train.max_epochs=2.5", "train.eval_period=1 epoch")
    again = cfg.copy()
    assert resolve_epochs(again) == [] and again == cfg


@pytest.mark.parametrize(
    ("overrides", "iterations"),
    [
        (["dataloader.train.total_batch_size=3"], 3),
        (["dataloader.train.total_batch_size=16"], 1),
        (["dataloader.train.total_batch_size=100"], 1),
        (["dataloader.train.dataset.fraction=0.5"], 2),
        (["dataloader.train.sampler.fraction=0.25"], 1),
        (["dataloader.train.dataset.filter_empty=True"], 3),
        ([f"dataloader.train.sampler.balance=[{{_target_: {BALANCE}.EmptyShare, share: 0.5}}]"], 6),
    ],
)
def test_an_epoch_is_that_of_data_set_sampler_and_batch(tiny, overrides, iterations):
    assert iterations_per_epoch(apply_overrides(tiny, overrides)) == iterations


@given(epochs=st.floats(1e-3, 1e3), iterations=st.integers(1, 10**6), count=st.integers(1, 100))
def test_iterations_are_the_nearest_and_multiples_of_an_epoch_fit_together(epochs, iterations, count):
    number = to_iterations(epochs, iterations)
    assert number == 1 or abs(number - epochs * iterations) <= 0.5 + 1e-6
    assert to_iterations(count, iterations) == count * to_iterations(1, iterations)


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (["++train.eval_period=1 week"], "train.eval_period"),
        (["++hooks.write_events.period=0 epochs"], "hooks.write_events.period"),
        (["train.max_epochs=0"], "train.max_epochs"),
        (["train.max_epochs=many"], "train.max_epochs"),
        (["train.max_epochs=true"], "train.max_epochs"),
        (["train.max_epochs=2", "train.max_iter=5"], "train.max_iter"),
        (["dataloader.train.sampler.fraction=0.0"], "dataloader.train.sampler"),
    ],
)
def test_faults_name_the_key(tiny, overrides, key):
    _, faults = resolved(tiny, *overrides)
    assert [fault.key for fault in faults] == [key] and faults[0].fix


def test_a_run_of_epochs_has_their_iterations_and_evaluations_and_can_be_resumed(output):
    folder, overrides = output
    overrides = [
        *overrides,
        "train.max_epochs=1.5",
        "train.eval_period=0.5 epochs",
        "train.checkpointer.period=1 epoch",
    ]
    run(RunOptions(CONFIG, overrides))
    assert iterations_of(folder) == list(range(6))
    evaluated = (folder / "evaluation" / "tiny").iterdir()
    assert sorted(path.name for path in evaluated) == ["iter_1", "iter_3", "iter_5"]
    assert sorted(path.name for path in folder.glob("model_0*.pth")) == ["model_0000003.pth"]
    last = json.loads((folder / "metrics.json").read_text().splitlines()[-1])
    assert (last["epoch"], last["images_seen"]) == (1.5, 12)
    saved = load_config(folder / "config.yaml").train
    assert (saved.max_epochs, saved.max_iter, saved.eval_period, saved.checkpointer.period) == (1.5, 6, 2, 4)
    run(RunOptions(CONFIG, overrides, resume=True))
    run(RunOptions(str(folder / "config.yaml"), resume=True))
    assert iterations_of(folder) == list(range(6))


def test_a_dry_run_shows_iterations(output, capsys, tmp_path):
    run(RunOptions(CONFIG, [*output[1], "train.max_epochs=10", "train.eval_period=2 epochs"], dry_run=True))
    (tmp_path / "printed.yaml").write_text(capsys.readouterr().out)
    train = load_config(tmp_path / "printed.yaml").train
    assert (train.max_epochs, train.max_iter, train.eval_period) == (10, 40, 8)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train.eval_period=1 week", "train.eval_period=1 week"),
        ("dataloader.train.sampler.fraction=2.0", "fraction: 2.0 is more than 1"),
        (f"dataloader.train.sampler.balance=[{{_target_: {BALANCE}.EmptyShare, share: 1}}]", "share"),
        (f"dataloader.train.sampler.balance=[{{_target_: {BALANCE}.DatasetBalance, weights: {{x: 1}}}}]", "tiny"),
    ],
)
def test_faults_of_periods_and_samplers_are_reported_before_anything_is_written(output, override, words):
    folder, overrides = output
    with pytest.raises(UserError, match=words):
        run(RunOptions(CONFIG, [*overrides, override]))
    assert not folder.exists()


SAMPLERS = {
    "another fraction in each epoch": ["dataloader.train.sampler.fraction=0.25"],
    "fixed fraction": ["dataloader.train.dataset.fraction=0.25", "dataloader.train.dataset.seed=1"],
    "classes": [f"dataloader.train.sampler.balance=[{{_target_: {BALANCE}.ClassBalance}}]"],
    "all balances": [
        "dataloader.train.sampler.balance=["
        f"{{_target_: {BALANCE}.RepeatFactors, threshold: 0.9}},"
        f"{{_target_: {BALANCE}.EmptyShare, share: 0.4}},"
        f"{{_target_: {BALANCE}.DatasetBalance, weights: {{one: 1, two: 2}}}}]"
    ],
}


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
def test_a_resumed_run_ends_with_the_same_weights_with_each_sampler(output, tiny_set, sampler):
    folder, overrides = output
    where = f"json_file: {tiny_set}/annotations.json, image_root: {tiny_set}/images"
    two_sets = f"++dataloader.train.dataset.names=[{{{where}, name: one}}, {{{where}, name: two}}]"
    overrides = [*overrides, two_sets, *sampler, *WITHOUT_EVALUATION, "train.max_iter=5"]
    run(RunOptions(CONFIG, overrides))
    whole = torch.load(folder / "model_final.pth", weights_only=True)["model"]
    stop = "+hooks.stop={_target_: tests.engine.hooks_for_tests.StopAt, iteration: 2}"
    run(RunOptions(CONFIG, [*overrides, stop], overwrite=True))
    assert iterations_of(folder) == [0, 1, 2]
    run(RunOptions(CONFIG, overrides, resume=True, overwrite=True))
    resumed = torch.load(folder / "model_final.pth", weights_only=True)["model"]
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())
