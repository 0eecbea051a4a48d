"""The validation loss on a tiny model: its value, and that training does not notice it."""

import copy
import random

import numpy as np
import pytest
import torch
from detectron2.config import instantiate
from detectron2.utils.events import EventStorage

from tests.engine.conftest import CONFIG
from tests.engine.test_run import assert_same_weights, lines_of, start, weights_of
from xray_lazy.config import get_config, load_config
from xray_lazy.data.validation_loader import full_batches
from xray_lazy.engine.hooks.validation_loss import mean_losses
from xray_lazy.engine.precision import Precision
from xray_lazy.errors import UserError

ON = ["hooks.validation_loss.period=2"]
NOWHERE = "dataloader.validation.dataset.names={json_file: nowhere.json, image_root: nowhere}"
FLOAT32 = Precision("cpu")


def validation_losses(folder):
    values = {
        line["iteration"]: {n: v for n, v in line.items() if n.startswith("val_loss")} for line in lines_of(folder)
    }
    return {iteration: losses for iteration, losses in values.items() if losses}


@pytest.fixture
def parts(tiny_set):
    """A model in training mode, with batch norm and dropout, and a validation loader."""
    cfg = load_config(CONFIG)
    torch.manual_seed(0)
    model = instantiate(cfg.model)
    model.roi_heads.box_head.append(torch.nn.Dropout(0.5))
    return model.train(), instantiate(cfg.dataloader.validation)


def test_every_image_counts_once_in_batches_that_are_all_full():
    batches = full_batches(23, 8)
    assert all(len(batch) == 8 for batch, _ in batches)
    weights = np.zeros(23)
    for batch, weight in batches:
        np.add.at(weights, batch, weight / len(batch))
    assert weights.tolist() == [1.0] * 23
    assert len(batches) == 2 + 3  # the remaining 7 as 4, 2 and 1


def test_the_losses_of_training_are_logged_with_total_and_terms(output):
    folder, overrides = output
    start([*overrides, *ON])
    logged = validation_losses(folder)
    assert set(logged) == {1, 3}
    for losses in logged.values():
        names = {"loss_cls", "loss_box_reg", "loss_mask", "loss_rpn_cls", "loss_rpn_loc"}
        assert set(losses) == {f"val_loss/{name}" for name in (*names, "total_loss")}
        assert losses["val_loss/total_loss"] == pytest.approx(sum(losses[f"val_loss/{name}"] for name in names))
    assert "val_loss" in (folder / "log.txt").read_text()


def test_training_ends_with_the_same_bits_with_and_without_it(output, tmp_path):
    folder, overrides = output
    start(overrides)
    start([*overrides, "hooks.validation_loss.period=1", f"train.output_dir={tmp_path / 'with'}"])
    assert_same_weights(weights_of(folder / "model_final.pth"), weights_of(tmp_path / "with" / "model_final.pth"))
    training = [{n: v for n, v in line.items() if "loss" in n and "/" not in n} for line in lines_of(folder)]
    beside = [{n: v for n, v in line.items() if n in training[0]} for line in lines_of(tmp_path / "with")]
    assert training == beside


def test_it_is_off_by_default(output):
    folder, overrides = output
    start([*overrides, "train.max_iter=1", NOWHERE])
    assert not validation_losses(folder)


def test_model_random_states_and_event_storage_are_left_as_they_were(parts):
    model, loader = parts
    model.backbone.bottom_up.stem.eval()  # a frozen part
    modes = {name: module.training for name, module in model.named_modules()}
    before = copy.deepcopy(model.state_dict())
    random.seed(1), np.random.seed(2), torch.manual_seed(3)
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    with EventStorage(7) as storage:
        mean_losses(model, loader, FLOAT32)
    assert_same_weights(before, model.state_dict())
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert (random.getstate(), np.random.get_state()[1].tolist()) == states[:2]
    assert torch.equal(torch.get_rng_state(), states[2])
    assert storage.latest() == {} and storage.iter == 7
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.gpu
def test_the_random_state_of_the_gpu_is_left_as_it_was(parts):
    model, loader = parts
    torch.cuda.manual_seed(5)
    state = torch.cuda.get_rng_state()
    mean_losses(model.cuda(), loader, Precision("cuda", enabled=True))
    assert torch.equal(torch.cuda.get_rng_state(), state)


def test_the_same_weights_have_the_same_loss_whatever_was_drawn_before(parts):
    model, loader = parts
    first = mean_losses(model, loader, FLOAT32)
    torch.rand(3), np.random.rand(3)
    with EventStorage(7):
        assert mean_losses(model, loader, FLOAT32) == first


def test_batch_norm_takes_its_running_statistics_and_dropout_is_off(parts):
    model, loader = parts
    before = mean_losses(model, loader, FLOAT32)
    model.roi_heads.box_head[-1].p = 0.0
    assert mean_losses(model, loader, FLOAT32) == before
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean += 0.5
    assert mean_losses(model, loader, FLOAT32) != before


def test_frozen_batch_norm_gives_the_loss_of_the_same_model_in_training(parts):
    # a batch that is the whole set: with running statistics in both, training's own loss is the validation loss
    model, loader = parts
    model.roi_heads.box_head[-1].p = 0.0
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    totals = []
    for batch, weight in loader:
        with EventStorage(1):
            totals.append((weight, sum(model(batch).values()).item()))
    expected = sum(weight * total for weight, total in totals) / sum(weight for weight, _ in totals)
    assert mean_losses(model, loader, FLOAT32)["total_loss"] == pytest.approx(expected, rel=1e-6)


def test_images_are_not_augmented_at_random(tiny_set):
    cfg = load_config(CONFIG)
    augmentations = instantiate(cfg.dataloader.validation.mapper).augmentations.augs
    assert [type(a).__name__ for a in augmentations] == ["ResizeShortestEdge"]


@pytest.mark.slow
def test_two_processes_have_the_loss_of_one_also_with_images_left_over(output, tmp_path):
    folder, overrides = output
    # 5 images in batches of 4: one full batch, and one that holds an image four times
    overrides = [*overrides, *ON, "dataloader.train.total_batch_size=4", "dataloader.validation.dataset.max_pictures=5"]
    # synchronised batch norm gathers another variance than that of one process
    layers = ["stem", *(f"stages.{stage}" for stage in range(4))]
    overrides += [f"model.backbone.bottom_up.{layer}.norm=FrozenBN" for layer in layers]
    start(overrides)
    start([*overrides, f"train.output_dir={tmp_path / 'two'}"], num_processes=2)
    alone, shared = validation_losses(folder), validation_losses(tmp_path / "two")
    assert alone.keys() == shared.keys() == {1, 3}
    for iteration, losses in alone.items():
        assert shared[iteration] == pytest.approx(losses, rel=1e-5)


@pytest.mark.slow
def test_a_resumed_run_logs_the_same_values(output, tmp_path):
    folder, overrides = output
    start([*overrides, *ON])
    overrides = [*overrides, *ON, f"train.output_dir={tmp_path / 'half'}"]
    start([*overrides, "+hooks.stop={_target_: tests.engine.hooks_for_tests.StopAt, iteration: 1}"])
    start(overrides, resume=True, overwrite=True)
    assert validation_losses(tmp_path / "half") == validation_losses(folder)
    assert_same_weights(weights_of(folder / "model_final.pth"), weights_of(tmp_path / "half" / "model_final.pth"))


def test_mixed_precision_and_averaged_weights_have_a_validation_loss(output):
    folder, overrides = output
    start([*overrides, *ON, "train.amp.enabled=True", "hooks.ema.decay=0.9", "train.max_iter=2"])
    losses = validation_losses(folder)[1]
    assert losses["val_loss/total_loss"] > 0 and losses["val_loss_EMA/total_loss"] > 0
    assert losses["val_loss/total_loss"] != losses["val_loss_EMA/total_loss"]


@pytest.mark.parametrize("name", ["sparse_rcnn_tiny_demo", "sparse_rcnn_tiny_mask_demo"])
def test_sparse_rcnn_has_a_validation_loss(name, tiny_set):
    cfg = get_config(f"projects/sparse_rcnn/{name}.py", ["model.num_classes=2"])
    tiny = load_config(CONFIG)
    for part in ("train", "test"):
        cfg.dataloader[part].dataset.names = tiny.dataloader[part].dataset.names
        cfg.dataloader[part].num_workers = 0
    model = instantiate(cfg.model)
    before = copy.deepcopy(model.state_dict())
    losses = mean_losses(model, instantiate(cfg.dataloader.validation), FLOAT32)
    assert losses["loss_ce"] > 0 and losses["loss_giou_0"] > 0 and ("loss_mask" in losses) == ("mask" in name)
    assert losses["total_loss"] == pytest.approx(sum(v for n, v in losses.items() if n != "total_loss"))
    assert_same_weights(before, model.state_dict())


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("dataloader.validation.dataset.max_pictures=0", "max_pictures: 0 is less than 1"),
        (NOWHERE, "nowhere.json"),
    ],
)
def test_faults_are_found_before_the_first_step(output, override, words):
    folder, overrides = output
    with pytest.raises(UserError) as error:
        start([*overrides, *ON, override])
    assert words in str(error.value)
    assert not (folder / "metrics.json").exists()
