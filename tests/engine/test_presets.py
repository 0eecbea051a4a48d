"""`--preset NAME`: ready changes to a config, before the person's own."""

import gzip
import json

import pytest
import torch
from detectron2.config import instantiate
from omegaconf import OmegaConf

from tests.engine.conftest import CONFIG
from xray_lazy.config import apply_presets, check_config, from_yaml, get_config, load_config, preset_names
from xray_lazy.engine.run import RunOptions, run
from xray_lazy.errors import UserError

CONFIGS = ["xray/mask_rcnn_r50.py", "xray/sparse_rcnn_r50.py", "xray/faster_rcnn_r50.py"]


def files_of(dataset):
    return [record["file_name"] for record in dataset]


@pytest.mark.parametrize("name", CONFIGS)
def test_presets_fit_the_configs_that_come_with_the_package(name):
    cfg = get_config(name)
    for preset in preset_names():
        changed = apply_presets(cfg, [preset])
        assert check_config(changed) == [], preset
        assert changed.train.output_dir == f"{cfg.train.output_dir}_{preset}"
    assert "overfit" not in cfg.train.output_dir


def test_presets_empty_what_changes_the_view_and_add_nothing_to_a_mapper_that_lacks_it():
    cfg = get_config("xray/mask_rcnn_r50.py")
    assert cfg.dataloader.train.mapper.mixing and not apply_presets(cfg, ["one_batch"]).dataloader.train.mapper.mixing
    del cfg.dataloader.train.mapper["mixing"]
    assert "mixing" not in apply_presets(cfg, ["one_batch"]).dataloader.train.mapper


def test_a_misspelled_preset_is_an_error_with_the_right_name():
    with pytest.raises(UserError, match="there is no preset overfitt") as error:
        run(RunOptions(CONFIG, presets=["overfitt"]))
    assert error.value.fix == "did you mean overfit?"


def test_overrides_come_after_presets_which_come_in_their_order(capsys, tmp_path):
    overrides = ["train.max_iter=7", f"train.output_dir={tmp_path}"]
    run(RunOptions(CONFIG, overrides, presets=["overfit", "one_batch"], dry_run=True))
    cfg = from_yaml(capsys.readouterr().out, "what was printed")
    assert cfg.train.max_iter == 7 and cfg.train.output_dir == str(tmp_path)
    assert cfg.train.eval_period == 0 and cfg.dataloader.train.dataset.max_pictures == 2


def test_overfit_evaluates_the_images_that_it_learns_and_sees_them_the_same_way_each_time():
    cfg = apply_presets(load_config(CONFIG), ["overfit"])
    cfg.dataloader.train.dataset.max_pictures = 3
    train, test = instantiate(cfg.dataloader.train), instantiate(cfg.dataloader.test)
    assert len(train.dataset) == 3 and files_of(train.dataset) == files_of(test.dataset)
    assert len(files_of(instantiate(cfg.dataloader.evaluator).dataset)) == 3
    batches = train.batches(0)
    views = {}
    for _ in range(6):
        for sample in next(batches):
            assert torch.equal(views.setdefault(sample["file_name"], sample["image"]), sample["image"])
    assert len(views) == 3


def test_one_batch_is_always_the_same_batch():
    batches = instantiate(apply_presets(load_config(CONFIG), ["one_batch"]).dataloader.train).batches(0)
    first, *others = (next(batches) for _ in range(4))
    for batch in others:
        assert [s["file_name"] for s in batch] == [s["file_name"] for s in first]
        assert all(torch.equal(one["image"], other["image"]) for one, other in zip(first, batch, strict=True))


def test_profile_leaves_a_trace_and_a_table_of_the_phases_and_ends_the_run(output):
    folder, overrides = output
    run(RunOptions(CONFIG, [*overrides, "hooks.profile.warmup=1", "hooks.profile.steps=2"], presets=["profile"]))
    table = (folder / "profile" / "table.txt").read_text()
    phases, operators = table.split("\n\n")
    shares = {line.split()[0]: float(line.split()[2].rstrip("%")) for line in phases.splitlines()[2:]}
    assert list(shares) == ["data", "forward", "backward", "optimizer", "hooks", "rest", "step"]
    assert shares["forward"] > 5 and shares["backward"] > 5 and shares["step"] == 100
    assert sum(shares.values()) == pytest.approx(200, abs=1)
    assert "convolution" in operators
    with gzip.open(folder / "profile" / "trace.pt.trace.json.gz", "rt") as stream:
        events = [event.get("name") for event in json.load(stream)["traceEvents"]]
    assert events.count("forward") == 2 and "aten::conv2d" in events
    assert "the profile is recorded" in (folder / "log.txt").read_text()


@pytest.mark.slow
def test_a_run_that_ends_before_its_profile_does_leaves_one_of_the_steps_it_had(output):
    folder, overrides = output
    settings = ["hooks.profile.warmup=1", "hooks.profile.steps=50", "train.max_iter=3", "~hooks.evaluation"]
    run(RunOptions(CONFIG, [*overrides, *settings], presets=["profile"]))
    assert "2 steps from iteration 1 on" in (folder / "log.txt").read_text()


@pytest.fixture
def no_anomaly_detection_afterwards():
    yield
    torch.autograd.set_detect_anomaly(False)


@pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled", "ignore:Error detected in")
def test_anomaly_stops_in_the_backward_pass_at_the_operation_that_made_the_nan(output, no_anomaly_detection_afterwards):
    poison = "+hooks.poison={_target_: tests.engine.hooks_for_tests.PoisonAt, iteration: 1}"
    with pytest.raises(RuntimeError, match=r"Function '.*Backward.*' returned nan"):
        run(RunOptions(CONFIG, [*output[1], poison], presets=["anomaly"]))


def test_a_preset_is_kept_in_the_saved_config(output):
    folder, overrides = output
    run(RunOptions(CONFIG, [*overrides, "train.max_iter=1", "~hooks.prediction_pictures"], presets=["one_batch"]))
    assert OmegaConf.select(load_config(folder / "config.yaml"), "dataloader.train.dataset.max_pictures") == 2
