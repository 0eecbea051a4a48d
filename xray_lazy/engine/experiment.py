"""Run what a config describes: train it, or evaluate its weights. Each process of a run calls these."""

import inspect
import logging
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from detectron2.config import instantiate
from detectron2.evaluation.testing import flatten_results_dict
from detectron2.utils import comm
from omegaconf import DictConfig, ListConfig, OmegaConf
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from xray_lazy.config.plain_lists import make_lists_plain
from xray_lazy.config.suggest import did_you_mean, nearest
from xray_lazy.data.fingerprint import fingerprint
from xray_lazy.engine.acceleration import compile_parts, instantiate_optimizer, use_channels_last
from xray_lazy.engine.checkpoint import Checkpointer, KeptFiles, load_trained_weights
from xray_lazy.engine.determinism import seed_everything, set_determinism
from xray_lazy.engine.evaluation_run import EvaluationRun, augmentation_enabled, evaluate_augmented
from xray_lazy.engine.hook_order import build_hooks, given
from xray_lazy.engine.output_folder.claims import Claim
from xray_lazy.engine.output_folder.earlier_run import check_data_of_run, mark_of_evaluation
from xray_lazy.engine.output_folder.folder_ownership import check_claim, claimed_run_folder, open_run_folder
from xray_lazy.engine.output_folder.run_log import hold_log, start_logging
from xray_lazy.engine.precision import Precision, set_float32_matmul
from xray_lazy.engine.trainer import Trainer
from xray_lazy.engine.weights.class_rows import ClassRows
from xray_lazy.errors import UserError
from xray_lazy.failure import FAILURE_FILE, refused_paths_are_failures, tell_failures_in
from xray_lazy.modeling.convolutions import keep_depthwise_in_float32
from xray_lazy.modeling.freezing import freeze
from xray_lazy.modeling.synchronised_batch_norm import synchronise_batch_norm
from xray_lazy.run_folder import RunFolder
from xray_lazy.tracking.run_record import RunRecord
from xray_lazy.tracking.unfailing import UnfailingWriter
from xray_lazy.tracking.wandb_evaluation import add_evaluation

DDP_ARGUMENTS = inspect.signature(DistributedDataParallel).parameters  # torch 2.14 renamed one

logger = logging.getLogger(__name__)


def train(
    cfg: DictConfig, device: str, resume: bool = False, overwrite: bool = False, overrides: Sequence[str] = ()
) -> None:
    """Train, from the start or from the last checkpoint.

    Nothing in the output folder changes before model, data, hooks, writers and weights are there.

    Args:
        cfg: the checked config.
        device: "cuda" or "cpu".
        resume: continue where the newest checkpoint was saved, or from the start where none was; in the same W&B run.
        overwrite: another run in the output folder is replaced (or, with `resume`, goes on with this config).
        overrides: those of the command line, for the record in `run.json`.

    Raises:
        UserError, RunFailure: see `Trainer.train`, `Checkpointer` and `claimed_run_folder`.
    """
    hold_log()
    with claimed_run_folder(cfg.train.output_dir) if comm.is_main_process() else nullcontext() as claim:
        comm.synchronize()
        _train(cfg, device, resume, overwrite, overrides, claim)


def warn_of_augmentation(cfg: DictConfig) -> None:
    """Say that test-time augmentation plays no part in a training, where the config asks for it."""
    if augmentation_enabled(cfg):
        logger.warning("test.tta.enabled is for --eval-only: evaluation during training is without augmentation")


def _train(
    cfg: DictConfig, device: str, resume: bool, overwrite: bool, overrides: Sequence[str], claim: Claim | None
) -> None:
    warn_of_augmentation(cfg)
    set_determinism(cfg.train.deterministic)
    set_float32_matmul(cfg.train.get("float32_matmul", "highest"))
    model = build_model(cfg, device)
    trainer = build_trainer(cfg, model, device)
    start_iteration = _load_start(cfg, trainer.checkpointer, trainer.loader.dataset, trainer.evaluate, resume)
    _check_equal_starts(comm.all_gather(start_iteration))
    if start_iteration >= cfg.train.max_iter and not trainer.has_evaluation_left:
        saved, done = trainer.checkpointer.get_checkpoint_file(), f"{start_iteration} of {cfg.train.max_iter}"
        logger.info("%s iterations are done, and saved in %s; raise train.max_iter to go on", done, saved)
        (Path(cfg.train.output_dir) / FAILURE_FILE).unlink(missing_ok=True)
        return
    trainer.check()
    if "test" in cfg.dataloader:
        trainer.evaluate.check()
    if comm.is_main_process():
        if resume:
            RunRecord.read_earlier(cfg.train.output_dir)  # one that can't go on is refused before anything changes
        open_run_folder(cfg, resume, overwrite)
    comm.synchronize()
    tell_failures_in(cfg.train.output_dir)
    start_logging(cfg.train.output_dir)
    _log_size(model)
    try:
        if comm.is_main_process():
            record_start(cfg, overrides, resume, trainer, start_iteration)
            folder = RunFolder(cfg.train.output_dir)
            trainer.checkpointer.kept = KeptFiles(folder.config, folder.record)
            if claim is not None:
                trainer.checkpointer.check_folder = partial(check_claim, claim)
        with refused_paths_are_failures():
            trainer.train(start_iteration, cfg.train.max_iter)
        if not trainer.is_finished:
            for writer in trainer.writers.values():
                writer.pause()
    finally:
        for writer in trainer.writers.values():
            writer.close()
    tell_failures_in(None)


def evaluate(cfg: DictConfig, device: str) -> dict[str, dict[str, float]]:
    """Evaluate `train.init_checkpoint` on the test set; the first process returns the metrics by task.

    With `test.tta.enabled` the weights are evaluated twice, the second time with test-time augmentation; its metrics
    are those of the tasks `bbox_TTA` and `segm_TTA`. Where the weights are those of a training with W&B, its run there
    gets the metrics.
    """
    hold_log()
    set_determinism(cfg.train.deterministic)
    set_float32_matmul(cfg.train.get("float32_matmul", "highest"))
    model = build_model(cfg, device)
    checkpoint = load_trained_weights(model, cfg.train.init_checkpoint)
    run = EvaluationRun(cfg.dataloader, cfg.train.output_dir, Precision(device, **cfg.train.amp).evaluation_autocast)
    is_same_data = check_data_of_run(Path(cfg.train.init_checkpoint).parent, "test", *run.datasets)
    run.mark = mark_of_evaluation(cfg, checkpoint, is_same_data)
    run.check()
    start_logging(cfg.train.output_dir)
    iteration = checkpoint.get("iteration", 0)
    results = evaluate_augmented(cfg, run, model, iteration) if augmentation_enabled(cfg) else run(model, iteration)
    if comm.is_main_process():
        add_evaluation(cfg, run.name, flatten_results_dict(results), iteration)
    return results


def build_model(cfg: DictConfig, device: str) -> nn.Module:
    """The model of a config as it is trained or evaluated: on its device, with what the config freezes and speeds up.

    Raises:
        UserError: `train.freeze` or `train.compile` names a part that the model has not.
    """
    seed_everything(cfg.train.seed)
    model = instantiate(cfg.model).to(device)
    make_lists_plain(model)
    if comm.get_world_size() > 1:
        synchronise_batch_norm(model)
    freeze_parts(cfg, model)
    accelerate(cfg, model)
    return model


def accelerate(cfg: DictConfig, model: nn.Module) -> None:
    """Let a model compute as fast as the config says.

    Raises:
        UserError: `train.compile` names a part that the model has not, or what torch doesn't know.
    """
    if cfg.train.channels_last:
        use_channels_last(model)
    if cfg.train.amp.enabled and next(model.parameters()).device.type == "cpu":
        keep_depthwise_in_float32(model)
    if cfg.train.compile.enabled:
        compile_parts(model, **{name: value for name, value in cfg.train.compile.items() if name != "enabled"})


def freeze_parts(cfg: DictConfig, model: nn.Module) -> None:
    """Freeze what the config says.

    Raises:
        UserError: it names a part that the model has not.
    """
    patterns = cfg.train.freeze
    if not isinstance(patterns, ListConfig):
        raise UserError(
            f"train.freeze: {patterns!r} is not a list", "write a list: train.freeze=[backbone.bottom_up.res3]"
        )
    freeze(model, patterns)


def build_trainer(cfg: DictConfig, model: nn.Module, device: str) -> Trainer:
    """The trainer of a config, around a model that is on its device."""
    main = comm.is_main_process()
    clip, precision = cfg.train.clip_gradients, Precision(device, **cfg.train.amp)
    loader = instantiate(cfg.dataloader.train)
    checkpointer = Checkpointer(model, cfg.train.output_dir, save_to_disk=main)
    checkpointer.class_names = class_names(loader.dataset)
    return Trainer(
        model=_data_parallel(model, device, cfg.train.ddp),
        optimizer=build_optimizer(cfg, model),
        loader=loader,
        precision=precision,
        checkpointer=checkpointer,
        hooks=build_hooks(cfg),
        writers={n: UnfailingWriter(n, instantiate(w)) for n, w in given(cfg.writers).items()} if main else {},
        evaluate=EvaluationRun(cfg.dataloader, cfg.train.output_dir, precision.evaluation_autocast),
        max_norm=clip.max_norm if clip.enabled else None,
        accumulate=cfg.train.accumulate,
        max_skipped_steps=cfg.train.max_skipped_steps,
        seed=cfg.train.seed,
    )


def class_names(dataset: object) -> Sequence[str]:
    """The classes that a data set has; none if it, a class of the user's, doesn't tell."""
    return tuple(getattr(dataset, "class_names", ()))


def load_initial_weights(cfg: DictConfig, checkpointer: Checkpointer) -> None:
    """Load the weights that training starts from; class layers as `train.class_map` says, see `ClassRows`.

    Raises:
        UserError: as `Checkpointer.load` and `ClassRows`.
    """
    if cfg.train.get("class_map", {}) is not None:
        checkpointer.fit_classes = ClassRows(cfg, checkpointer.model, checkpointer.class_names).fit
    if cfg.train.freeze and not cfg.train.init_checkpoint:
        logger.warning(
            "train.freeze keeps random weights in %s, as train.init_checkpoint names no others: to train from scratch, "
            "set train.freeze=[]",
            ", ".join(cfg.train.freeze),
        )
    checkpointer.load(cfg.train.init_checkpoint, checkpointables=[])


def build_optimizer(cfg: DictConfig, model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer of a config over the groups that its `params` makes of the model."""
    node: Any = OmegaConf.to_container(cfg.optimizer, resolve=True)
    make_groups = instantiate(node.pop("params"))
    scale = cfg.train.scale_lr
    if scale.enabled:
        node["lr"] *= cfg.dataloader.train.total_batch_size / scale.batch_size
    groups = make_groups(model, node["lr"], node.get("weight_decay", 0.0))
    if not groups:
        raise UserError(f"no parameter of {type(model).__name__} is trained", "leave something out of train.freeze")
    return instantiate_optimizer({**node, "params": groups})


def check_weights(cfg: DictConfig, training: bool = True, resume: bool = False) -> None:
    """Load what a start would load, into a model that is then forgotten; what does not fit is warned of as there.

    Args:
        cfg: without faults.
        training: False is for evaluation alone.
        resume: a checkpoint in the output folder goes before the weights that training begins with.

    Raises:
        UserError: as the start would say it.
    """
    model, evaluation = build_model(cfg, "cpu"), EvaluationRun(cfg.dataloader, cfg.train.output_dir)
    if not training:
        load_trained_weights(model, cfg.train.init_checkpoint)
        check_data_of_run(Path(cfg.train.init_checkpoint).parent, "test", *evaluation.datasets)
        return
    checkpointer, dataset = Checkpointer(model, cfg.train.output_dir), instantiate(cfg.dataloader.train.get("dataset"))
    checkpointer.class_names = class_names(dataset)
    _load_start(cfg, checkpointer, dataset, evaluation, resume)


def _load_start(
    cfg: DictConfig, checkpointer: Checkpointer, train_set: Any, evaluation: EvaluationRun, resume: bool
) -> int:
    """Load what training goes on from, or begins with; the iteration that it starts at."""
    if not (resume and checkpointer.has_checkpoint()):
        load_initial_weights(cfg, checkpointer)
        return 0
    check_data_of_run(cfg.train.output_dir, "train", train_set)
    if "test" in cfg.dataloader:
        check_data_of_run(cfg.train.output_dir, "test", *evaluation.datasets)
    return checkpointer.resume()


def _check_equal_starts(starts: Sequence[int]) -> None:
    if len(set(starts)) > 1:
        raise UserError(
            f"processes see different checkpoints: they would begin at the iterations {', '.join(map(str, starts))}",
            "put train.output_dir into a folder that all machines share",
        )


def record_start(
    cfg: DictConfig, overrides: Sequence[str], resume: bool, trainer: Trainer, start_iteration: int
) -> None:
    """Tell the writers of this start, and keep what they and the run's record know in `run.json`."""
    run = RunRecord.collect(cfg, overrides, world_size=comm.get_world_size(), resumed=resume)
    run.start_iteration = start_iteration
    run.datasets = {"train": fingerprint(trainer.loader.dataset)}
    if "test" in cfg.dataloader:
        run.datasets["test"] = fingerprint(*trainer.evaluate.datasets)
    run.learning_rates = {f"lr/{g['name']}" if g.get("name") else "lr": g["lr"] for g in trainer.optimizer.param_groups}
    run.write_diff()
    run.wandb_id = run.wandb_id or trainer.run_facts.get("wandb_id")
    for writer in trainer.writers.values():
        trainer.run_facts.update(writer.start(run) or {})
    run.wandb_id = trainer.run_facts.get("wandb_id", run.wandb_id)
    run.write(RunFolder(trainer.checkpointer.save_dir).record)


def check_data_parallel_options(cfg: DictConfig) -> None:
    """Refuse arguments that DistributedDataParallel hasn't.

    Raises:
        UserError: one is unknown; near names are given.
    """
    for name in cfg.train.ddp:
        if name not in DDP_ARGUMENTS:
            near = did_you_mean(nearest(name, DDP_ARGUMENTS))
            raise UserError(f"DistributedDataParallel has no argument {name}", near or "leave it out")


def _data_parallel(model: nn.Module, device: str, options: DictConfig) -> nn.Module:
    if comm.get_world_size() == 1:
        return model
    # on the CPU, device_ids must not be given
    devices = [torch.cuda.current_device()] if device == "cuda" else None
    # buffers are equal without being sent: batch norm is frozen or synchronised
    sync = {"forward_sync_buffers": False} if "forward_sync_buffers" in DDP_ARGUMENTS else {"broadcast_buffers": False}
    return DistributedDataParallel(
        model, device_ids=devices, **sync, **{str(name): value for name, value in options.items()}
    )


def _log_size(model: nn.Module) -> None:
    total = sum(p.numel() for p in model.parameters()) / 1e6
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad) / 1e6
    logger.info("%s: %.1f M parameters, %.1f M of them trained", type(model).__name__, total, trained)
