"""What a start would refuse, the check before it refuses, with the key and exit code 2."""

import json

import cv2
import numpy as np
import pytest
import torch
from detectron2.config import instantiate
from omegaconf import OmegaConf

from tests.data.coco_sets import reference, write_set
from tests.engine.conftest import CONFIG
from xray_lazy.config import apply_overrides, load_config
from xray_lazy.engine.preflight.preflight import check_experiment, check_parts, warn_of_uncounted_detections
from xray_lazy.engine.preflight.trial_step import try_images
from xray_lazy.engine.run import RunOptions, run
from xray_lazy.errors import UserError
from xray_lazy.utils.limits import Limits

TTA_CONFIG = CONFIG.replace("tiny.py", "tiny_tta.py")


@pytest.fixture(scope="module")
def tiny():
    return load_config(CONFIG)


def faults_of(config, *overrides):
    return check_experiment(apply_overrides(config, overrides), world_size=1)


@pytest.mark.parametrize(("most", "warned"), [(30, True), (100, False)])
def test_detections_that_evaluation_would_not_count_are_warned_of(tiny, caplog, most, warned):
    overrides = ["model.roi_heads.box_predictor.test_topk_per_image=100", f"dataloader.evaluator.max_detections={most}"]
    warn_of_uncounted_detections(apply_overrides(tiny, overrides))
    assert ("dataloader.evaluator.max_detections=100" in caplog.text) == warned


@pytest.mark.parametrize("enabled", [True, False])
def test_detections_of_test_time_augmentation_count_where_it_is_done(caplog, enabled):
    overrides = [f"test.tta.enabled={enabled}", "test.tta.model.detections_per_image=500"]
    warn_of_uncounted_detections(apply_overrides(load_config(TTA_CONFIG), overrides))
    assert ("test.tta.model.detections_per_image is 500" in caplog.text) == enabled


@pytest.mark.parametrize(
    ("override", "key", "words"),
    [
        ("optimizer.lr=-0.01", "optimizer.lr", "less than 0"),
        ("optimizer.momentum=-1", "optimizer.momentum", "less than 0"),
        ("++dataloader.train.total_batch_size=2.0", "dataloader.train.total_batch_size", "2.0 is not a whole number"),
        ("++optimizer.lr='abc'", "optimizer.lr", "not a number"),
        ("+optimizer.dampening=0.5 +optimizer.nesterov=True", "optimizer", "Nesterov"),
        ("optimizer.params.layer_decay=0", "optimizer.params.layer_decay", "not above 0"),
        ("lr_multiplier.warmup_factor=-1", "lr_multiplier.warmup_factor", "less than 0"),
        ("hooks.ema.decay=1", "hooks.ema", "decay is 1"),
        ("hooks.early_stopping.patience=0", "hooks.early_stopping", "patience of 0"),
        ("hooks.early_stopping.patience=1.5", "hooks.early_stopping", "1.5 is not a whole number"),
        ("model.input_format=GBR", "model.input_format", "it is 'GBR'"),
        ("dataloader.train.mapper.cache.folder=5", "dataloader.train.mapper.cache.folder", "not a text"),
        ("~optimizer.lr", "optimizer.lr", "no such key"),
        ("++dataloader.train.dataset.names=null", "dataloader.train.dataset", "no data set is named"),
        ("++dataloader.train.dataset.names={json_file: a.json}", "dataloader.train.dataset", "lacks image_root"),
        (
            "dataloader.train.sampler.balance=[{_target_:xray_lazy.data.balance.RepeatFactors,threshold:-1}]",
            "dataloader.train.sampler.balance.0",
            "threshold of RepeatFactors is -1",
        ),
        ("hooks.early_stopping.patience=nan", "hooks.early_stopping", "patience of nan"),
        ("hooks.best_checkpoint.metric=null", "hooks.best_checkpoint.metric", "not a text"),
        ("dataloader.train.sampler.balance=[null]", "dataloader.train.sampler", "balances nothing"),
        ("model.pixel_mean=[nan,0,0]", "model.pixel_mean", "not a finite number"),
        (
            "dataloader.train.mapper.augmentations=null",
            "dataloader.train.mapper.augmentations",
            "null, which DetectionMapper doesn't take",
        ),
        ("dataloader.test.mapper.image_format=GBR", "dataloader.test.mapper.image_format", "it is 'GBR'"),
        ("dataloader.test.mapper.image_format=RGB", "dataloader.test.mapper.image_format", "image_format is 'BGR'"),
        ("hooks.best_checkpoint.mode=up", "hooks.best_checkpoint", "mode 'up'"),
        ("hooks.checkpoint.period=0", "hooks.checkpoint.period", "less than 1"),
        ("+hooks.mine={a: 1}", "hooks.mine", "without a _target_"),
        ("writers.wandb.mode=on", "writers.wandb", "'on'"),
        ('train.freeze=["*"]', "optimizer", "no parameter of GeneralizedRCNN is trained"),
        ("train.freeze=[nothing]", "train.freeze", "means no parameter"),
        ("++train.freeze=backbone", "train.freeze", "is not a list"),
        ("train.output_dir=null", "train.output_dir", "not a text"),
        ("++train.max_iter='many'", "train.max_iter", "not a number"),
        ("train.seed=-1", "train.seed", "less than 0"),
        ("train.seed=99999999999999999999", "train.seed", "more than 9223372036854775807"),
        ("train.clip_gradients.max_norm=-1", "train.clip_gradients.max_norm", "not above 0"),
        ("train.amp.dtype=float8", "train.amp.dtype", "float8"),
        ("+train.amp.scale=1", "train.amp", "scale"),
        ("+train.ddp.find_unused=True", "train.ddp", "find_unused"),
        ("~train.accumulate", "train.accumulate", "no such key"),
        ("dataloader.train.num_workers=-1", "dataloader.train.num_workers", "less than 0"),
        (
            "dataloader.train.mapper.augmentations.0.sample_style=any",
            "dataloader.train.mapper.augmentations.0",
            "sample_style='any', max_size=64) can't be built",
        ),
        (
            "model.proposal_generator.anchor_generator.sizes.1=[-8]",
            "model.proposal_generator.anchor_generator.sizes",
            "-8",
        ),
        ("model.roi_heads.box_pooler.sampling_ratio=-1", "model.roi_heads.box_pooler.sampling_ratio", "less than 0"),
        ("model.roi_heads.positive_fraction=2", "model.roi_heads.positive_fraction", "more than 1"),
        ("hooks.best_checkpoint.metric=bbx/AP", "hooks.best_checkpoint.metric", "no evaluation gives bbx/AP"),
        ("hooks.best_checkpoint.metric=screening/P_D@7", "hooks.best_checkpoint.metric", "gives screening/P_D@7"),
        (
            "hooks.early_stopping.metric=bbox/AP-gnu ++hooks.early_stopping.patience=2",
            "hooks.early_stopping.metric",
            "no evaluation gives bbox/AP-gnu",
        ),
        (
            "+hooks.best_of_few={_target_: xray_lazy.engine.hooks.best_checkpoint.BestCheckpoint, metric: bbox/AP5, "
            "file_name: few}",
            "hooks.best_of_few.metric",
            "no evaluation gives bbox/AP5",
        ),
        (
            "+hooks.second={_target_: xray_lazy.engine.hooks.best_checkpoint.BestCheckpoint, metric: bbox/AP}",
            "hooks.best_checkpoint",
            "two hooks write model_best.pth",
        ),
        ("hooks.evaluation_media.chosen=[nowhere.png]", "hooks.evaluation_media.chosen", "tiny has none"),
        ("dataloader.evaluator.screening.group_by='(x)y'", "dataloader.evaluator", "group_by"),
    ],
)
def test_a_value_that_can_not_be_meant_is_a_fault_of_its_key(tiny, override, key, words):
    faults = faults_of(tiny, *override.split(" +")[:1], *(f"+{more}" for more in override.split(" +")[1:]))
    assert [fault.key for fault in faults] == [key]
    assert words in faults[0].message and faults[0].fix


@pytest.mark.parametrize(
    ("override", "key", "message"),
    [
        (
            "proposal_generator.anchor_generator.aspect_ratios=[-0.5,1]",
            "proposal_generator.anchor_generator",
            "AnchorGenerator(sizes=[[24], [48], [80], [120]], aspect_ratios=[-0.5, 1.0], strides=[8, 16, 32, 64], "
            "offset=0.0) can't be built: ValueError: ",
        ),
        (
            "proposal_generator.anchor_matcher.thresholds=[-1,0.7]",
            "proposal_generator.anchor_matcher",
            "Matcher(thresholds=[-1.0, 0.7], labels=[0, -1, 1], allow_low_quality_matches=True) can't be built: "
            "AssertionError: assert thresholds[0] > 0",
        ),
        (
            "pixel_mean=[1,2]",
            "",
            "GeneralizedRCNN(backbone=FPN(...), proposal_generator=PictureSeededRPN(...), "
            "roi_heads=PictureSeededROIHeads(...), pixel_mean=[1.0, 2.0], pixel_std=[55.0, 43.0, 53.0], "
            "input_format='BGR') can't be built: AssertionError: ",
        ),
    ],
)
def test_what_can_not_be_built_is_told_by_its_innermost_node_and_its_arguments(tiny, override, key, message):
    (fault,) = faults_of(tiny, f"model.{override}")
    assert fault.key == f"model.{key}".rstrip(".") and fault.message.startswith(message)
    assert "\n" not in fault.message and len(fault.message) < 800


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("~train", "no such node"),
        ("~optimizer", "no such node"),
        ("~optimizer.params", "no such node"),
        ("~dataloader", "no such node"),
        ("~dataloader.evaluator", "no such node"),
        ("~dataloader.train.mapper", "needs the argument mapper"),
        ("~dataloader.test.dataset", "no such node"),
        ("~train.checkpointer", "these refer to it: hooks.precise_batch_norm.periods.1, hooks.checkpoint.period, "),
        ("++train.checkpointer=null", "these refer to it: "),
        ("~train.log_period", "these refer to it: hooks.write_events.period, writers.console.period, "),
        ("~model.backbone", "needs the argument backbone"),
        ("~model._target_", "without a _target_"),
        ("~lr_multiplier._target_", "without a _target_"),
        ("++dataloader.train.sampler=null", "no such node"),
        ("++dataloader.train.dataset=null", "no such node"),
        ("++dataloader.evaluator=5", "it is 5, without a _target_"),
        ("++train=5", "it is 5, where a group of keys belongs"),
        ("++train.ddp=null", "no such key"),
        ("++train.clip_gradients=null", "no such key"),
        ("++hooks=5", "it is 5"),
        ("++hooks=[1]", "it is [1]"),
        ("++writers=5", "it is 5"),
        ("++writers.json=5", "it is 5"),
        ("++train.init_checkpoint=5", "5 is not a text"),
    ],
)
def test_a_node_that_is_gone_or_none_is_one_fault_whatever_follows_from_it(tiny, override, words):
    (fault,) = faults_of(tiny, override)
    key = override.strip("~+").partition("=")[0]
    assert fault.key == key.removesuffix("._target_") and words in fault.message and fault.fix


@pytest.mark.parametrize(
    ("override", "key", "words"),
    [
        ("model.roi_heads.box_pooler.output_size=5", "model", "roi_heads.box_head.fc1: RuntimeError: mat1 and mat2"),
        ("model.proposal_generator.in_features=[p3]", "model", "strides 8, 16, 32, 64, but gets p3 with 8"),
        ("model.proposal_generator.in_features.0=odd", "model", "the backbone has no odd"),
        ("model.proposal_generator.in_features=[p6,p5,p4,p3]", "model", "gets p6, p5, p4, p3 with 64, 32, 16, 8"),
        ("model.proposal_generator.anchor_generator.strides=[4,8,16,32]", "model", "strides 4, 8, 16, 32, but gets"),
        (
            "model.roi_heads.box_in_features=[p5,p4,p3,p2]",
            "model",
            "roi_heads.box_pooler is for feature maps with the strides",
        ),
        ("model.roi_heads.mask_pooler.scales=[0.5,0.25,0.125,0.0625]", "model", "model.roi_heads.mask_pooler is for"),
        ("dataloader.train.mapper.is_train=False", "model", "gt_instances"),
        (
            "dataloader.train.mapper.augmentations.0.short_edge_length=[]",
            "dataloader.train.mapper",
            "can't be prepared",
        ),
        ("dataloader.test.mapper.augmentations.0.max_size=1", "", ""),
    ],
)
def test_parts_that_do_not_fit_one_another_are_found_by_the_first_images(tiny, override, key, words):
    cfg = apply_overrides(tiny, [override])
    faults = check_experiment(cfg, world_size=1) or try_images(cfg)
    assert [fault.key for fault in faults] == [key][: bool(key)]
    assert all(words in fault.message and fault.fix for fault in faults)


def test_a_model_whose_numbers_grow_beyond_all_bounds_before_its_weights_are_loaded_is_no_fault(tiny):
    cfg = apply_overrides(tiny, ["model.pixel_std=[1e-30,1e-30,1e-30]", "model.backbone.bottom_up.stem.norm=''"])
    assert try_images(cfg) == []


def test_metrics_are_not_judged_where_an_evaluator_or_hook_of_ones_own_may_give_them(tiny):
    wrong = "hooks.best_checkpoint.metric=bbox/F1"
    evaluator = "dataloader.evaluator={_target_: tests.engine.fault_hooks.EvaluatorWithoutMemory}"
    assert faults_of(tiny, wrong)
    assert not faults_of(tiny, wrong, f"++{evaluator}")
    assert not faults_of(tiny, wrong, "+hooks.mine={_target_: tests.engine.hooks_for_tests.CrashAt, iteration: 1}")


def test_the_dry_run_tries_the_first_images_and_writes_nothing(tmp_path):
    cache, output = tmp_path / "cache", tmp_path / "run"
    overrides = [f"dataloader.train.mapper.cache.folder={cache}", f"train.output_dir={output}", "train.device=cpu"]
    run(RunOptions(str(CONFIG), overrides, dry_run=True))
    assert not cache.exists() and not output.exists()
    with pytest.raises(UserError, match="mat1 and mat2"):
        run(RunOptions(str(CONFIG), [*overrides, "model.roi_heads.box_pooler.output_size=5"], dry_run=True))


def test_the_dry_run_tells_of_weights_that_load_in_part(tiny, tmp_path, caplog):
    weights = write_half_of_weights(tiny, tmp_path)
    options = {"overrides": [f"train.init_checkpoint={weights}", "train.device=cpu"], "dry_run": True}
    run(RunOptions(str(CONFIG), **options))
    assert "left as initialised: roi_heads" in caplog.text
    with pytest.raises(UserError, match="does not fit the model"):
        run(RunOptions(str(CONFIG), **options, eval_only=True))


def test_a_file_that_is_no_config_of_a_training_is_refused_before_its_overrides(tmp_path):
    file = tmp_path / "sweep.yaml"
    file.write_text("method: grid\nparameters: {}\n")
    with pytest.raises(UserError, match="is no config of a training"):
        run(RunOptions(str(file), ["train.device=cpu"], dry_run=True))


def test_a_set_of_other_classes_is_refused_also_where_weights_are_only_evaluated(tiny, tmp_path):
    cfg = apply_overrides(tiny, ["model.roi_heads.num_classes=7"])
    evaluated, trained = (check_experiment(cfg, 1, training=training) for training in (False, True))
    assert any("evaluate a set of the model's classes" in fault.fix for fault in evaluated)
    assert not any("evaluate a set" in fault.fix for fault in trained)


def write_half_of_weights(cfg, folder):
    path = folder / "weights.pth"
    weights = instantiate(cfg.model).state_dict()
    torch.save({"model": {name: one for name, one in weights.items() if not name.startswith("roi_heads")}}, path)
    return path


def test_what_refers_to_a_faulty_value_is_not_told_of_again(tiny):
    # seeds of sampler and loader refer to it
    assert len(faults_of(tiny, "train.seed=-1")) == 1
    assert [fault.key for fault in faults_of(tiny, "+train.rate=-1.0", "optimizer.lr=${train.rate}")] == [
        "optimizer.lr"
    ]


@pytest.mark.parametrize(
    "override",
    ["train.eval_period=0", "train.eval_period=1 epoch", "train.seed=0", "dataloader.train.num_workers=0"]
    + [
        "hooks.early_stopping=null",
        "dataloader.test.dataset.seed=null",
        "optimizer.momentum=0",
        "train.max_epochs=0.5",
    ],
)
def test_values_at_the_ends_of_their_range_are_taken(tiny, override):
    assert faults_of(tiny, override) == []


def crowd_all(content):
    for annotation in content["annotations"]:
        annotation["iscrowd"] = 1


def crowd_one_class(content):
    for annotation in content["annotations"]:
        annotation["iscrowd"] = int(annotation["category_id"] == 3)


def unmask_one_class(content):
    for annotation in content["annotations"]:
        annotation["segmentation"] = annotation["segmentation"] if annotation["category_id"] == 1 else []


def write_ids_as_text(content):
    for annotation in content["annotations"]:
        annotation["image_id"] = str(annotation["image_id"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (crowd_all, "has no instance to train on"),
        (write_ids_as_text, "is the id of one in another form"),
        (crowd_one_class, "has no instance with a mask to train on of 1 class: knife"),
        (unmask_one_class, "has no instance with a mask to train on of 1 class: knife"),
    ],
)
def test_a_set_that_gives_training_nothing_of_a_class_is_a_fault(tiny, tmp_path, change, words):
    content = write_set(tmp_path)
    assert faults_of(tiny, *training_set(tmp_path)) == []
    change(content)
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    faults = faults_of(tiny, *training_set(tmp_path))
    assert [fault.key for fault in faults] == ["dataloader.train.dataset"]
    assert words in faults[0].message and "check" in faults[0].fix


def test_images_of_16_bits_that_training_sees_nothing_of_are_told(tiny, tmp_path, caplog):
    write_set(tmp_path)
    assert faults_of(tiny, *training_set(tmp_path)) == [] and not caplog.records
    for image in (tmp_path / "images").iterdir():
        cv2.imwrite(str(image), cv2.imread(str(image)).astype(np.uint16) * 16)
    assert faults_of(tiny, *training_set(tmp_path)) == []
    assert [record.getMessage().count("the model sees 1 to 15 of 255") for record in caplog.records] == [1]


def test_a_part_of_a_set_may_lack_a_class(tiny, tmp_path):
    write_set(tmp_path)
    assert faults_of(tiny, *training_set(tmp_path), "dataloader.train.dataset.max_pictures=1") == []


def training_set(folder):
    return [f"dataloader.train.dataset.names.{key}={value}" for key, value in reference(folder).items()]


def test_evaluation_takes_what_only_training_would_refuse(tiny):
    overrides = ["optimizer.lr=-1", "train.eval_period=-1", "train.init_checkpoint="]
    faults = check_experiment(apply_overrides(tiny, overrides), world_size=1, training=False)
    assert [fault.key for fault in faults] == ["train.init_checkpoint"]


TILES = "{_target_: xray_lazy.evaluation.tiling.TiledModel, model: null, width: 9, overlap: 0}"


@pytest.mark.parametrize(
    ("override", "key", "words"),
    [
        ("test.tta.model=null", "test.tta.model", "test.tta.model is none"),
        ("~test.tta.model", "test.tta.model", "test.tta.model is none"),
        ("test.tta.model.short_edge_lengths=[]", "test.tta.model", "has nothing to look at"),
        (f"test.tta.model.model={TILES}", "test.tta.model", "takes its place"),
        ("test.tta.model.image_format=RGB", "test.tta.model.image_format", "image_format is 'BGR'"),
        ("test.tta.model.image_format=null", "test.tta.model.image_format", "it is null"),
    ],
)
def test_augmentation_that_evaluation_could_not_do_is_a_fault_before_it(output, override, key, words):
    cfg = load_config(TTA_CONFIG, ["test.tta.enabled=True", f"++{override}".replace("++~", "~")])
    assert [(fault.key, words in fault.message) for fault in check_parts(cfg, training=False)] == [(key, True)]


def test_weights_of_another_model_are_refused_before_evaluation_and_named_for_training(tiny, tmp_path):
    model = instantiate(tiny.model)
    others = {name: value for name, value in model.state_dict().items() if "roi_heads" not in name}
    torch.save({"model": others}, tmp_path / "part.pth")
    torch.save({"model": {"layer.weight": torch.zeros(1)}}, tmp_path / "other.pth")
    for name, when, words in (
        ("part", False, "the checkpoint does not fit the model"),
        ("other", False, "none of this model's weights"),
        ("other", True, "none of this model's weights"),
    ):
        cfg = apply_overrides(tiny, [f"train.init_checkpoint={tmp_path}/{name}.pth"])
        (fault,) = check_experiment(cfg, world_size=1, training=when)
        assert fault.key == "train.init_checkpoint" and words in fault.message
    assert not check_experiment(apply_overrides(tiny, [f"train.init_checkpoint={tmp_path}/part.pth"]), world_size=1)


def test_a_config_without_train_is_told_so(tmp_path):
    (tmp_path / "model.py").write_text("model = dict(a=1)\n")
    for presets in ([], ["overfit"]):
        with pytest.raises(UserError, match="hooks: the config has no such node"):
            run(RunOptions(str(tmp_path / "model.py"), presets=presets, dry_run=True))


def test_a_hook_or_writer_that_is_null_is_left_out(output):
    folder, overrides = output
    run(RunOptions(CONFIG, [*overrides, "hooks.early_stopping=null", "writers.tensorboard=null", "train.max_iter=1"]))
    assert (folder / "model_final.pth").is_file() and not (folder / "tensorboard").exists()


def test_limits_say_what_to_write():
    assert str(Limits(least=0, most=1)) == "a number from 0 to 1"
    assert str(Limits(least=1, whole=True)) == "a whole number of at least 1"
    assert Limits(least=1, whole=True).complaint(1.5) == "1.5 is not a whole number"


class Bringing:
    """A part of `mixing` with items of these classes."""

    def __init__(self, classes):
        self.classes = classes

    def __call__(self, scene, random, others):
        return scene

    def brought_classes(self, into_empty, into_occupied):
        assert (into_empty, into_occupied) == (True, False)
        return set(self.classes)


@pytest.mark.parametrize(
    ("brought", "message"),
    [("gun, knife", ""), ("gun", "of 1 class: knife"), ("", "has no instance to train on")],
)
def test_bags_without_items_are_trained_on_where_items_are_put_into_them(tiny, tmp_path, brought, message):
    content = write_set(tmp_path)
    content["annotations"] = []
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    part = f"{{_target_: {__name__}.Bringing, classes: [{brought}]}}"
    faults = faults_of(tiny, *training_set(tmp_path), f"dataloader.train.mapper.mixing=[{part}]")
    assert [message in fault.message for fault in faults] == [True] * bool(message)


@pytest.mark.parametrize("key", ["model.pixel_mean", "train.max_iter", "train.amp.dtype", "train.output_dir"])
@pytest.mark.parametrize("value", [np.array([1.0, 2.0, 3.0]), torch.ones(3), np.int64(4), [np.ones(2), torch.ones(2)]])
def test_an_array_in_a_config_is_told_to_be_written_in_plain_numbers(key, value):
    cfg = load_config(CONFIG)
    cfg._set_flag("allow_objects", True)
    node, _, part = key.rpartition(".")
    OmegaConf.select(cfg, node)[part] = value
    faults = [fault for fault in check_parts(cfg, training=True) if fault.key.startswith(key)]
    assert faults
    if not isinstance(value, list):
        assert all(".tolist()" in fault.fix for fault in faults)


def test_what_may_be_any_number_is_said_without_a_blank_at_its_end():
    assert str(Limits()) == "a number"
