#!/usr/bin/env python
"""Train with one explicit loop, without hooks and writers: the place to start an unusual experiment.

It takes the configs of lazy_train.py and has the same losses for the same seed, in a single process. Copy the file,
keep its beginning, and change the loop.
"""

import argparse

from xray_lazy.command_line import path, run_tool
from xray_lazy.config.arguments import parse_with_overrides
from xray_lazy.errors import RunFailure, UserError


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--config-file", required=True, type=path, metavar="FILE", help="a LazyConfig, or a run's config.yaml"
    )
    parser.add_argument("--overwrite", action="store_true", help="let another run's output folder be used")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    return parser


def main(options: argparse.Namespace, overrides: list[str]) -> None:
    """From the command line to a checked config and an output folder of its own."""
    from functools import partial

    from xray_lazy.data.loaders import explained_worker_death
    from xray_lazy.engine.output_folder.folder_ownership import check_run_folder, claimed_run_folder
    from xray_lazy.engine.prepare import prepare

    check_folder = partial(check_run_folder, resume=False, overwrite=options.overwrite, can_resume=False)
    prepared = prepare(options.config_file, overrides, check_folder=check_folder)
    cfg = prepared.cfg
    if cfg.train.accumulate > 1:
        raise UserError("this loop does not accumulate gradients", "train.accumulate=1, or take lazy_train.py")
    with claimed_run_folder(cfg.train.output_dir), explained_worker_death():
        train(cfg, prepared.plan.device, options.overwrite)


def train(cfg, device: str, overwrite: bool = False) -> None:
    """The whole training, from top to bottom."""
    import json
    import time
    from pathlib import Path

    import torch
    from detectron2.config import instantiate
    from detectron2.utils.events import EventStorage

    from xray_lazy.engine.checkpoint import Checkpointer
    from xray_lazy.engine.determinism import seed_everything, set_determinism
    from xray_lazy.engine.evaluation_run import EvaluationRun
    from xray_lazy.engine.experiment import build_model, build_optimizer, class_names, load_initial_weights
    from xray_lazy.engine.output_folder.folder_ownership import open_run_folder
    from xray_lazy.engine.output_folder.run_log import hold_log, start_logging
    from xray_lazy.engine.precision import Precision
    from xray_lazy.failure import tell_failures_in
    from xray_lazy.run_folder import FINAL, RunFolder

    output = Path(cfg.train.output_dir)
    hold_log()
    set_determinism(cfg.train.deterministic)

    # A model: any module that returns a dict of losses for a batch in training, and detections else.
    model = build_model(cfg, device)
    loader, checkpointer = instantiate(cfg.dataloader.train), Checkpointer(model, output)
    checkpointer.class_names = class_names(loader)
    load_initial_weights(cfg, checkpointer)

    # Several optimizers, say one for each of two networks, are built here and stepped below.
    optimizer = build_optimizer(cfg, model)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    initial_rates = [group["lr"] for group in optimizer.param_groups]
    schedule = instantiate(cfg.lr_multiplier)
    precision = Precision(device, **cfg.train.amp)
    clip = cfg.train.clip_gradients

    # A batch is a list of dicts, see DetectionMapper; a second loader, say of unlabelled images, is one line more.
    batches = loader.batches(start_iteration=0)

    # All is built: from here on the output folder is this run's.
    open_run_folder(cfg, resume=False, overwrite=overwrite)
    tell_failures_in(output)
    start_logging(output)
    model.train()
    log = RunFolder(output).metrics.open("w")
    start = time.perf_counter()
    with EventStorage() as storage:  # detectron2's models count things in it, and know the iteration from it
        for iteration in range(cfg.train.max_iter):
            storage.iter = iteration
            seed_everything(hash((cfg.train.seed, iteration, 0)) % 2**32)  # randomness depends on the step alone
            batch = next(batches)

            # Another schedule, such as one that looks at the losses: set the rates here.
            multiplier = schedule(iteration / cfg.train.max_iter)
            for group, rate in zip(optimizer.param_groups, initial_rates, strict=True):
                group["lr"] = rate * multiplier

            # Weigh losses, add one, or call the model twice (a teacher, an adversarial step) here.
            with precision.autocast():
                losses = model(batch)
            loss = sum(losses.values())
            stop_if_not_finite(loss, iteration, batch)

            # Gradients are complete after this block: look at them or change them at its end.
            optimizer.zero_grad(set_to_none=True)
            precision.scaler.scale(loss).backward()
            precision.scaler.unscale_(optimizer)
            norm = torch.nn.utils.clip_grad_norm_(parameters, clip.max_norm if clip.enabled else float("inf"))

            precision.scaler.step(optimizer)
            precision.scaler.update()
            # Weights are new: an average of them (EMA) is updated here.

            line = {"iteration": iteration, "lr": optimizer.param_groups[0]["lr"], "gradient_norm": norm.item()}
            line |= {name: value.item() for name, value in losses.items()} | {"total_loss": loss.item()}
            print(json.dumps(line), file=log, flush=True)
            if (iteration + 1) % cfg.train.log_period == 0:
                speed = (iteration + 1) * len(batch) / (time.perf_counter() - start)
                print(f"{iteration + 1}/{cfg.train.max_iter}  loss {loss.item():.4f}  {speed:.1f} images/s", flush=True)

    # To evaluate or save within training, move these two lines into the loop.
    checkpointer.save(FINAL, iteration=cfg.train.max_iter - 1)
    EvaluationRun(cfg.dataloader, output)(model, cfg.train.max_iter - 1)


def stop_if_not_finite(loss, iteration: int, batch: list[dict]) -> None:
    if not loss.isfinite():
        images = ", ".join(sample["file_name"] for sample in batch)
        raise RunFailure(f"the loss is not finite at iteration {iteration} with {images}", "lower optimizer.lr")


if __name__ == "__main__":
    arguments, config_overrides = parse_with_overrides(build_parser())
    run_tool(lambda: main(arguments, config_overrides), arguments.debug)
