"""Several test sets in one evaluation, each by itself: names, folders, means, best weights, several processes."""

import json
import math
import shutil

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.data.coco_sets import write_set
from tests.engine.conftest import CONFIG
from tests.engine.quick_processes import run_group
from xray_lazy.analysis.inputs import inputs_of_run
from xray_lazy.analysis.screening.screening import screen_inputs
from xray_lazy.config import load_config
from xray_lazy.data.dataset_places import short_names
from xray_lazy.engine.checkpoint_evaluation.queue import CheckpointQueue
from xray_lazy.engine.checkpoint_evaluation.worker import EvaluatorOptions, evaluate_checkpoints
from xray_lazy.engine.evaluated_sets import nodes_of_sets, together
from xray_lazy.engine.run import RunOptions, run
from xray_lazy.errors import UserError
from xray_lazy.report.review import review_of
from xray_lazy.report.run_files import read_run
from xray_lazy.report.write import write_report
from xray_lazy.run_folder import FINAL, RunFolder, read_json_lines

THREATS, CLEAN = "xray_threats_val_2of3", "xray_clean_val_2of3"
WHOLE = f"{THREATS}+{CLEAN}"


@pytest.fixture(scope="module")
def two_sets(tmp_path_factory):
    """A set of threats and one of clean bags, as overrides."""
    folder = tmp_path_factory.mktemp("sets")
    write_set(folder / "threats", count=3)
    write_set(folder / "clean", count=3, annotations=[])
    named = (
        f"{{name: xray_{name}_val, json_file: {folder}/{name}/annotations.json, image_root: {folder}/{name}/images}}"
        for name in ("threats", "clean")
    )
    return [
        f"++dataloader.test.dataset.names=[{','.join(named)}]",
        "dataloader.test_apart=True",
        "dataloader.test.dataset.max_pictures=2",
    ]


def last_line(folder):
    return read_json_lines(folder / "metrics.json")[-1]


@pytest.fixture(scope="module")
def trained(two_sets, tmp_path_factory):
    """A run that judges averaged weights by one of its sets."""
    folder = tmp_path_factory.mktemp("run")
    judged = ["hooks.best_checkpoint.metric=threats/bbox/AR100", "hooks.early_stopping.patience=5"]
    judged += ["hooks.ema.decay=0.5", "hooks.ema.evaluate=instead", "hooks.validation_loss.period=2"]
    options = [f"train.output_dir={folder}", "train.device=cpu", *two_sets, *judged]
    with pytest.raises(UserError, match="has 2"):
        run(RunOptions(CONFIG, [*options, "hooks.evaluation_media.chosen=[bag_0.png]"]))
    for wrong, right in (("threats/bbox/AR10O", "threats/bbox/AR100"), ("thraets/bbox/AP", "threats/bbox/AP")):
        with pytest.raises(UserError, match="no evaluation gives") as error:
            run(RunOptions(CONFIG, [*options, f"hooks.best_checkpoint.metric={wrong}"]))
        assert right in error.value.fix and not list(folder.iterdir())
    for hook in ("best_checkpoint", "early_stopping"):
        with pytest.raises(
            UserError, match=f"{hook}.metric: clean/bbox/AP would have no value .*: {CLEAN} has no"
        ) as error:
            run(RunOptions(CONFIG, [*options, f"hooks.{hook}.metric=clean/bbox/AP"], dry_run=True))
        assert f"such as bbox/AP, or leave the hook out: ~hooks.{hook}" in error.value.fix
    run(RunOptions(CONFIG, options))
    return folder


def test_each_set_has_its_names_and_the_mean_has_the_plain_ones(trained):
    last = last_line(trained)
    assert last["bbox_EMA/AR100"] == last["threats/bbox_EMA/AR100"] is not None
    assert last["clean/bbox_EMA/AP"] is None and "clean/segm_EMA/AP" not in last
    # neither set alone has bags of both kinds
    assert last["threats/screening_EMA/P_D@5"] is last["clean/screening_EMA/P_D@5"] is None
    assert last["screening_EMA/P_D@5"] is not None
    assert last["val_loss_EMA/total_loss"] > 0


def test_each_set_has_its_folder_and_the_mean_has_one(trained):
    found = {(e.dataset, e.iteration, e.suffix): e for e in RunFolder(trained).evaluations()}
    assert set(found) == {(name, i, "_EMA") for name in (*WHOLE.split("+"), WHOLE) for i in (1, 3)}
    one, mean = found[THREATS, 3, "_EMA"], found[WHOLE, 3, "_EMA"]
    assert one.predictions.is_file() and mean.images == 4
    assert mean.metrics["bbox_EMA/AR100"] == one.metrics["bbox_EMA/AR100"]
    assert mean.metrics["screening_EMA/P_D@5"] == last_line(trained)["screening_EMA/P_D@5"]


def test_each_set_is_shown_and_the_screening_of_all(trained):
    events = EventAccumulator(str(trained / "tensorboard")).Reload()
    for tag in ("threats/pictures_EMA/01_bag_0", "clean/pictures_EMA/01_bag_0", "screening_roc_EMA"):
        assert [event.step for event in events.Images(f"val/{tag}")] == [1, 3], tag
    assert {"val/threats/bbox_EMA/AP", "val_classes/threats/bbox_EMA/AP-gun"} <= set(events.Tags()["scalars"])


def test_checkpoints_evaluated_beside_training_have_the_same_names(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    evaluate_checkpoints(tmp_path / "run", EvaluatorOptions(device="cpu", follow=False, poll=0.05))
    [result] = [one for one in CheckpointQueue(tmp_path / "run").results() if one.name == FINAL]
    found = {name: value for name, value in last_line(trained).items() if name.endswith("/AR100")}
    assert "threats/bbox_EMA/AR100" in found
    assert {name: result.metrics[name] for name in found if found[name] is not None} == pytest.approx(
        {name: value for name, value in found.items() if value is not None}
    )


def test_the_tools_read_all_sets_together(trained, tmp_path):
    inputs = inputs_of_run(trained, "newest")
    assert inputs.dataset == WHOLE
    assert {image["scanner"] for image in inputs.ground_truth["images"]} == {"threats", "clean"}
    # images of two sets are never one bag, whatever they are called
    assert screen_inputs(inputs, group_by="^(bag_.)", resamples=2).bags == 4
    told = screen_inputs(inputs, resamples=2)
    assert (told.overall.threats, told.overall.clean) == (2, 2)
    for point in told.overall.points:
        assert last_line(trained)[f"screening_EMA/P_D@{100 * point.asked:g}"] == pytest.approx(100 * point.detection)
    assert inputs_of_run(trained, f"{CLEAN}/iter_3_EMA").dataset == CLEAN
    page = write_report([trained], tmp_path / "report.html").read_text()
    assert "By data set" in page and WHOLE in page
    assert review_of(read_run(trained)).dataset.name == WHOLE


def test_the_best_weights_are_chosen_by_a_set(trained):
    best = json.loads((trained / "best.json").read_bytes())
    assert best["metric"] == "threats/bbox_EMA/AR100"
    assert best["evaluation"] == f"evaluation/{THREATS}/iter_{best['iteration']}_EMA"
    assert json.loads((trained / "run.json").read_bytes())["datasets"]["test"]["name"] == WHOLE


def test_two_processes_and_eval_only_find_what_training_found(trained, two_sets, tmp_path):
    weights = [f"train.init_checkpoint={trained}/model_final_ema.pth", f"train.output_dir={tmp_path}/out"]
    options = RunOptions(CONFIG, [*two_sets, *weights, "train.device=cpu"], eval_only=True)
    run_group(run, options, processes=2, log=tmp_path / "log")
    evaluations = [(e.dataset, e) for e in RunFolder(trained).evaluations() if e.iteration == 3]
    found = RunFolder(tmp_path / "out").evaluations()
    assert len(found) == 3
    for again in found:
        before = dict(evaluations)[again.dataset]
        assert again.content["bbox"] == pytest.approx(before.content["bbox"], abs=0.5)
        assert again.content["screening"] == pytest.approx(before.content["screening"])


def test_one_set_has_the_names_that_it_has_alone(two_sets):
    cfg = load_config(CONFIG, ["dataloader.test_apart=True"])
    assert list(nodes_of_sets(cfg.dataloader)) == [""]
    cfg = load_config(CONFIG, two_sets)
    nodes = nodes_of_sets(cfg.dataloader)
    assert list(nodes) == ["threats", "clean"]
    # what refers to the names follows, and the config stays as it is
    assert nodes["clean"].evaluator.dataset.names.name == "xray_clean_val"
    assert len(cfg.dataloader.test.dataset.names) == 2


def test_two_sets_of_a_scanner_have_their_whole_names():
    assert short_names(["xray_smith_val", "xray_rapiscan_val"]) == ["smith", "rapiscan"]
    assert short_names(["xray_smith_val", "xray_smith_test"]) == ["xray_smith_val", "xray_smith_test"]
    with pytest.raises(UserError, match="two test sets are called bags"):
        short_names([{"json_file": "a/bags.json"}, {"json_file": "b/bags.json"}])


class Set:
    def __init__(self, name, has_items=True):
        self.name, self.has_items = name, has_items


def test_a_mean_is_of_figures_that_all_sets_with_items_have():
    found = [
        {"bbox": {"AP": 10.0, "AP-gun": 20.0, "AP-knife": math.nan}, "segm": {"AP": 8.0}},
        {"bbox": {"AP": 30.0, "AP-gun": 40.0, "AP-knife": 5.0}},
        {"bbox": {"AP": math.nan, "AP-gun": math.nan, "AP-knife": math.nan}},
    ]
    results = together([Set("a"), Set("b"), Set("clean", has_items=False)], found)
    assert results["bbox"] == {"AP": 20.0, "AP-gun": 30.0}
    assert "segm" not in results and results["a/segm"] == {"AP": 8.0}
    assert together([Set("")], found[:1]) == found[0]
