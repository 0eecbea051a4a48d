"""Overrides that change nothing, since what they belong to is switched off, are told; others are not."""

import pytest

from tests.engine.conftest import CONFIG
from xray_lazy.config import load_config
from xray_lazy.config.keys import flatten, is_within
from xray_lazy.config.overrides import change_config
from xray_lazy.engine.preflight import idle_overrides
from xray_lazy.engine.preflight.idle_overrides import warn_of_idle_overrides
from xray_lazy.engine.prepare import prepare

TTA_CONFIG = CONFIG.replace("tiny.py", "tiny_tta.py")
# off by default in the config of these tests, and what each needs
IDLE = [
    ("train.amp.dtype=float16", "train.amp.enabled=True"),
    ("train.scale_lr.batch_size=4", "train.scale_lr.enabled=True"),
    ("train.clip_gradients.max_norm=2.0", "train.clip_gradients.enabled=True"),
    ("train.compile.mode=max-autotune", "train.compile.enabled=True"),
    ("train.class_map={gun: knife}", "train.init_checkpoint=weights.pth"),
    ("train.checkpoint_classes=[gun, knife]", "train.init_checkpoint=weights.pth"),
    ("hooks.report.time_limit=5", "hooks.report.enabled=True"),
    ("hooks.ema.evaluate=instead", "hooks.ema.decay=0.9"),
    ("hooks.precise_batch_norm.periods=[3]", "hooks.precise_batch_norm.num_batches=2"),
    ("hooks.early_stopping.metric=segm/AP", "hooks.early_stopping.patience=3"),
    ("hooks.early_stopping.min_delta=1.0", "hooks.early_stopping.patience=3"),
    ("dataloader.validation.dataset.max_pictures=3", "hooks.validation_loss.period=2"),
    ("dataloader.train.mapper.cache.max_gib=5", "dataloader.train.mapper.cache.folder=cache"),
    ("dataloader.train.dataset.seed=1", "dataloader.train.dataset.fraction=0.5"),
    ("dataloader.test.dataset.seed=1", "dataloader.test.dataset.max_pictures=2"),
    ("dataloader.reader.deepest=3", "dataloader.reader.log_attenuation=True"),
    ("dataloader.reader.shown=[0]", "dataloader.reader.window=[0,255]"),
    ("optimizer.params.layers=[backbone]", "optimizer.params.layer_decay=0.5"),
    ("lr_multiplier.warmup_factor=0.5", "lr_multiplier.warmup_iters=3"),
    ("dataloader.evaluator.screening.iou=0.3", "dataloader.evaluator.screening.enabled=True"),
    ("train.checkpointer.keep_every=10", "hooks.checkpoint.max_to_keep=3"),
    ("hooks.checkpoint.keep_every=10", "hooks.checkpoint.max_to_keep=3"),
    ("hooks.prediction_pictures.score_threshold=0.9", "hooks.prediction_pictures.count=8"),
    ("writers.wandb.name=mine", "writers.wandb.mode=offline"),
    ("writers.wandb.checkpoints=best", "writers.wandb.mode=offline"),
]
OFF = [
    "train.clip_gradients.enabled=False",
    "lr_multiplier.warmup_iters=0",
    "dataloader.evaluator.screening.enabled=False",
    "train.checkpointer.max_to_keep=0",
    "hooks.prediction_pictures.count=0",
]


def warnings_of(caplog, *overrides, config=CONFIG, training=True):
    cfg, changes = change_config(load_config(config), overrides)
    caplog.clear()
    warn_of_idle_overrides(cfg, {change.key for change in changes}, training)
    return [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize(("idle", "on"), IDLE)
def test_what_a_switch_leaves_without_effect_is_told_with_the_switch(caplog, idle, on):
    (warning,) = warnings_of(caplog, *OFF, idle)
    assert warning.startswith(f"{idle.partition('=')[0]} has no effect while {on.partition('=')[0].rpartition('.')[0]}")
    assert "'null'" not in warning
    assert warnings_of(caplog, *OFF, idle, on) == []


def test_test_time_augmentation_and_half_precision_of_an_evaluation(caplog):
    settings = ["test.tta.model.horizontal_flip=False", "train.amp.enabled=True"]
    on = ["test.tta.enabled=True", "train.amp.evaluation=True"]
    assert len(warnings_of(caplog, *settings, config=TTA_CONFIG, training=False)) == 2
    assert warnings_of(caplog, *settings, *on, config=TTA_CONFIG, training=False) == []
    assert warnings_of(caplog, *settings, config=TTA_CONFIG) == []  # a training records it for later evaluations
    assert warnings_of(caplog, "train.clip_gradients.max_norm=2.0", training=False) == []


@pytest.mark.parametrize("training", [True, False])
def test_the_overlap_of_a_detection_that_counts_by_its_centre(caplog, training):
    centre, iou = "dataloader.evaluator.screening.hit=centre", "dataloader.evaluator.screening.iou=0.3"
    (warning,) = warnings_of(caplog, centre, iou, training=training)
    assert warning.startswith(
        "dataloader.evaluator.screening.iou has no effect while dataloader.evaluator.screening.hit"
    )
    assert warnings_of(caplog, centre) == warnings_of(caplog, iou) == []


def test_images_of_a_validation_that_another_hook_makes_have_an_effect(caplog):
    validating = "+hooks.mine={_target_: my.Hook, dataloader: '${dataloader}'}"
    assert warnings_of(caplog, validating, "dataloader.validation.dataset.max_pictures=3") == []


def test_switches_name_keys_that_exist():
    keys = flatten(load_config(TTA_CONFIG))
    for switch in (*idle_overrides.EVALUATION, *idle_overrides.EVALUATION_ONLY, *idle_overrides.TRAINING):
        assert set(switch.off) <= set(keys), switch
        for setting in switch.settings:
            assert any(is_within(key, [setting]) for key in keys), setting


def test_the_check_of_a_start_tells_it(caplog, tmp_path):
    prepare(CONFIG, [f"train.output_dir={tmp_path}/run", "train.amp.dtype=float16"])
    assert "train.amp.dtype has no effect while train.amp.enabled is False" in caplog.text
