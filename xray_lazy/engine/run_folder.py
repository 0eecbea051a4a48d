"""The output folder of a run: whose it is, what may be written into it, and where its log goes."""

import logging
import shutil
from pathlib import Path

from detectron2.utils import comm
from detectron2.utils.logger import setup_logger
from omegaconf import DictConfig

from xray_lazy.config import diff_configs, load_config, save_config
from xray_lazy.engine.checkpoint import remove_leftovers
from xray_lazy.errors import UserError

CONFIG_NAME = "config.yaml"
SHOWN_DIFFERENCES = 8
# they tell of each data set's bytes, and of torch functions that detectron2 calls
TALKATIVE = ("detectron2.data.common", "torch.fx._symbolic_trace")


def check_run_folder(cfg: DictConfig, resume: bool, overwrite: bool, can_resume: bool = True) -> None:
    """Refuse a folder that holds another run, before anything is written.

    Args:
        cfg: the config of the run that wants to start.
        resume: it goes on with what is in the folder; its config must be the same.
        overwrite: the person said that what is there may go (or, with `resume`, that the config may differ).
        can_resume: the tool that asks has the flag for `resume`, so that it may be proposed.

    Raises:
        UserError: the folder holds a run with another config, or one that would be overwritten; or it can't be made.
    """
    folder = Path(cfg.train.output_dir)
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not there.is_dir():
        raise UserError(f"there can be no output folder {folder}: {there} is a file", "choose another train.output_dir")
    present = folder / CONFIG_NAME
    if overwrite or not present.is_file():
        return
    differences = diff_configs(load_config(present), cfg)
    if differences:
        shown = "\n".join(f"    {line}" for line in differences[:SHOWN_DIFFERENCES])
        more = f"\n    and {len(differences) - SHOWN_DIFFERENCES} more" if len(differences) > SHOWN_DIFFERENCES else ""
        fix = "--overwrite goes on with the new config" if resume else "--overwrite deletes that run"
        raise UserError(
            f"the output folder {folder} holds a run with another config:\n{shown}{more}",
            f"choose another train.output_dir; {fix}",
        )
    if not resume and checkpoint_exists(cfg):
        raise UserError(
            f"the output folder {folder} holds checkpoints of this very config",
            f"{'--resume goes on from the last one, ' if can_resume else ''}--overwrite deletes that run, or choose "
            "another train.output_dir",
        )


def checkpoint_exists(cfg: DictConfig) -> bool:
    """Whether the output folder has something to resume from."""
    return (Path(cfg.train.output_dir) / "last_checkpoint").is_file()


def open_run_folder(cfg: DictConfig, resume: bool, overwrite: bool) -> None:
    """Make the folder, clear what an overwritten run or a killed process left, and save the config."""
    folder = Path(cfg.train.output_dir)
    if overwrite and not resume and (folder / CONFIG_NAME).is_file():
        _delete_run(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder)
        if not (resume and _is_under_way(folder)):  # else it was meant for the run that goes on
            (folder / "stop").unlink(missing_ok=True)
        save_config(cfg, folder / CONFIG_NAME)
    except PermissionError as error:
        raise UserError(
            f"can't write into the output folder {folder}: {error}", "choose another train.output_dir"
        ) from None


def _is_under_way(folder: Path) -> bool:
    last = folder / "last_checkpoint"
    return last.is_file() and last.read_text().strip() != "model_final.pth"


def _delete_run(folder: Path) -> None:
    """Delete what a run writes, and nothing that a person may have put beside it."""
    for name in ("tensorboard", "wandb", "evaluation", "evaluator", "visualizations", "profile", "analysis"):
        shutil.rmtree(folder / name, ignore_errors=True)
    names = (CONFIG_NAME, "run.json", "code*.diff", "log.txt*", "metrics.json", "last_checkpoint", "best*.json")
    number = "[0-9]" * 7
    names += (f"model_{number}.pth", "model_final.pth", "model_final_ema.pth", "report.html")
    # hooks that keep a best file by another metric name it themselves, and its record after it
    for best in {"best", *(record.stem for record in folder.glob("best*.json"))}:
        names += (f"model_{best}.pth", f"model_{best}_{number}.pth")
    for path in (path for name in names for path in folder.glob(name)):
        path.unlink()


def start_logging(output_dir: str) -> None:
    """Log to the console and, each process to its own file, to `<output_dir>/log.txt`."""
    for name in ("xray_lazy", "detectron2", "fvcore"):
        # detectron2 keeps one logger per arguments: a second run in this Python must not write into the first's file
        logger = logging.getLogger(name)
        for handler in list(logger.handlers):
            logger.removeHandler(handler)
            handler.close()
        setup_logger.cache_clear()
        setup_logger(str(Path(output_dir) / "log.txt"), distributed_rank=comm.get_rank(), name=name)
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(logging.ERROR)
