"""The output folder of a run: whose it is, what may be written into it, and where its log goes."""

import io
import logging
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from logging.handlers import MemoryHandler
from pathlib import Path

from detectron2.utils import comm
from detectron2.utils.logger import _cached_log_stream, setup_logger
from omegaconf import DictConfig

from xray_lazy.config import diff_configs, flatten, load_config, save_config
from xray_lazy.engine.checkpoint import holds_checkpoint, remove_leftovers
from xray_lazy.engine.claims import STALE_SECONDS, Claims
from xray_lazy.errors import UserError

CONFIG_NAME = "config.yaml"
# where an overwritten run waits until the job that takes its place has started
ASIDE_NAME = ".overwritten"
SHOWN_DIFFERENCES = 8
TRAINING = "training"  # the claim of the process that trains in a folder
LOGGED = ("xray_lazy", "detectron2", "fvcore")

logger = logging.getLogger(__name__)
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
        UserError: the folder holds a run with another config, or one that would be overwritten; a run is at work
            there; the config reads what overwriting deletes; or the folder can't be made.
    """
    folder = Path(cfg.train.output_dir)
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not there.is_dir():
        raise UserError(f"there can be no output folder {folder}: {there} is a file", "choose another train.output_dir")
    claims = Claims(folder)
    if claims.is_surely_taken(TRAINING):
        raise _at_work(folder, claims)
    if overwrite and not resume:
        _check_reads_nothing_of(folder, cfg)
    present = folder / CONFIG_NAME
    if overwrite:
        return
    differences = diff_configs(load_config(present), cfg) if present.is_file() else []
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
            f"the output folder {folder} holds checkpoints of this very config"
            if present.is_file()
            else f"the output folder {folder} holds checkpoints of a run without its config.yaml",
            f"{'--resume goes on from the last one, ' if can_resume else ''}--overwrite deletes that run, or choose "
            "another train.output_dir",
        )


def checkpoint_exists(cfg: DictConfig) -> bool:
    """Whether the output folder has something to resume from."""
    return holds_checkpoint(cfg.train.output_dir)


@contextmanager
def claimed_run_folder(folder: str | Path, stale_seconds: float = STALE_SECONDS) -> Iterator[None]:
    """Make the folder and be the only one who trains in it, among the processes of all machines that share it.

    What a dead process of this machine had claimed is free at once; of one on another machine it takes `stale_seconds`
    to tell. A folder that is made here and stays empty is removed again.

    Raises:
        UserError: another run is at work in the folder, or nothing can be written there.
    """
    folder = Path(folder)
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    claims, waits = Claims(folder, stale_seconds=stale_seconds), False
    with _explained_refusal(folder):
        folder.mkdir(parents=True, exist_ok=True)
        while (claim := claims.take(TRAINING)) is None:
            if claims.is_surely_taken(TRAINING):
                raise _at_work(folder, claims)
            if not waits:
                waits = True
                host = claims.owner(TRAINING).get("host", "another machine")
                logger.warning("a run on %s was at work here: waiting %.0f s for a sign of it", host, stale_seconds)
            time.sleep(min(1.0, stale_seconds / 4))
    try:
        yield
    finally:
        claim.release()
        for path in made:
            if any(path.iterdir()):
                break
            path.rmdir()


def open_run_folder(cfg: DictConfig, resume: bool, overwrite: bool) -> None:
    """Clear what an overwritten run or a killed process left, and save the config.

    Called when nothing can stand in the way of the new run any more: what is deleted here is gone.
    """
    folder = Path(cfg.train.output_dir)
    with _explained_refusal(folder):
        if overwrite and not resume and _holds_run(folder):
            for path in _files_of_run(folder):
                _delete(path)
        shutil.rmtree(folder / ASIDE_NAME, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder)
        if not (resume and _is_under_way(folder)):  # else it was meant for the run that goes on
            (folder / "stop").unlink(missing_ok=True)
        save_config(cfg, folder / CONFIG_NAME)


@contextmanager
def prepared_run_folder(cfg: DictConfig, resume: bool, overwrite: bool) -> Iterator[None]:
    """Save the config for a job that opens the folder when it starts; the run that it replaces is set aside until then.

    Where the block fails, all is as it was.
    """
    folder = Path(cfg.train.output_dir)
    aside, config = folder / ASIDE_NAME, folder / CONFIG_NAME
    before = config.read_bytes() if config.is_file() else None
    moved: list[Path] = []
    try:
        with _explained_refusal(folder):
            folder.mkdir(parents=True, exist_ok=True)
            if overwrite and not resume and _holds_run(folder):
                if aside.is_dir():  # of a job that never started: the run that is there is to stay
                    for path in _files_of_run(folder):
                        _delete(path)
                else:
                    aside.mkdir()
                    for path in _files_of_run(folder):
                        path.rename(aside / path.name)
                        moved.append(path)
            if not (resume and _is_under_way(folder)):
                (folder / "stop").unlink(missing_ok=True)
            save_config(cfg, config)
        yield
    except BaseException:
        for path in moved:
            (aside / path.name).replace(path)
        if moved:
            aside.rmdir()
        elif before is not None:
            config.write_bytes(before)
        if before is None and config.is_file():
            config.unlink()
        raise


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def _explained_refusal(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"can't write into the output folder {folder}: {error}", "choose another train.output_dir"
        ) from None


def _at_work(folder: Path, claims: Claims) -> UserError:
    owner = claims.owner(TRAINING)
    return UserError(
        f"another run is at work in {folder}: process {owner.get('pid')} on {owner.get('host')}, "
        f"since {owner.get('time')}",
        "let it end, or choose another train.output_dir",
    )


def _is_under_way(folder: Path) -> bool:
    last = folder / "last_checkpoint"
    return last.is_file() and last.read_text(errors="replace").strip() != "model_final.pth"


def _holds_run(folder: Path) -> bool:
    return (folder / CONFIG_NAME).is_file() or holds_checkpoint(folder)


def _files_of_run(folder: Path) -> list[Path]:
    """What a run writes, and nothing that a person may have put beside it; its config, by which it is known, last."""
    names = ("tensorboard", "wandb", "evaluation", "evaluator", "visualizations", "profile", "analysis")
    names += ("last_checkpoint", "run.json", "code*.diff", "log.txt*", "metrics.json")
    number = "[0-9]" * 7
    names += (f"model_{number}.pth", "model_final.pth", "model_final_ema.pth", "report.html")
    # hooks that keep a best file by another metric name it themselves, and its record after it
    for best in {"best", *(record.stem for record in folder.glob("best*.json"))}:
        names += (f"model_{best}.pth", f"model_{best}_{number}.pth")
    return [path for name in (*names, "best*.json", CONFIG_NAME) for path in folder.glob(name)]


def _check_reads_nothing_of(folder: Path, cfg: DictConfig) -> None:
    """Refuse to overwrite a run that the new one is made of."""
    deleted = [path.resolve() for path in _files_of_run(folder)]
    for key, value in flatten(cfg).items():
        if isinstance(value, str) and key.startswith(("train.init_checkpoint", "dataloader.", "model.")):
            read = Path(value.partition("?")[0]).resolve()
            if any(read == path or path in read.parents for path in deleted):
                raise UserError(
                    f"{key}={value} belongs to the run that --overwrite deletes",
                    "choose another train.output_dir, or move that file out of the folder",
                )


def hold_log() -> None:
    """Log to the console, and keep what is logged for the file that `start_logging` opens: nothing is written yet."""
    _set_up_logging(None)
    for name in LOGGED:
        logging.getLogger(name).addHandler(MemoryHandler(10_000, flushLevel=logging.CRITICAL + 1))


def start_logging(output_dir: str) -> None:
    """Log to the console and, each process to its own file, to `<output_dir>/log.txt`."""
    loggers = [logging.getLogger(name) for name in LOGGED]
    handlers = [(logger, handler) for logger in loggers for handler in logger.handlers]
    held = [(record, logger) for logger, h in handlers if isinstance(h, MemoryHandler) for record in h.buffer]
    _set_up_logging(str(Path(output_dir) / "log.txt"))
    for record, logger in sorted(held, key=lambda item: item[0].created):
        logger.handlers[-1].handle(record)  # the last one is that of the file


def _set_up_logging(file: str | None) -> None:
    _cached_log_stream.cache_clear()  # a file of this name may have been deleted since
    for name in LOGGED:
        # detectron2 keeps one logger per arguments: a second run in this Python must not write into the first's file
        logger = logging.getLogger(name)
        for handler in list(logger.handlers):
            logger.removeHandler(handler)
            handler.close()
        setup_logger.cache_clear()
        setup_logger(file, distributed_rank=comm.get_rank(), name=name)
    for handler in (handler for name in LOGGED for handler in logging.getLogger(name).handlers):
        if isinstance(stream := getattr(handler, "stream", None), io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files and classes may not be UTF-8
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(logging.ERROR)
