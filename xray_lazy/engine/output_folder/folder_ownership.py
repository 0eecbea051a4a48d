"""The output folder of a run: whose it is, and what may be written into it."""

import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from xray_lazy.config import diff_configs, flatten, keys_missing_in, load_config, save_config
from xray_lazy.engine.output_folder.claims import STALE_SECONDS, Claim, Claims
from xray_lazy.errors import RunFailure, UserError
from xray_lazy.failure import FAILURE_FILE, tell_failures_in
from xray_lazy.run_folder import RunFolder
from xray_lazy.utils.results_place import move_all

# where an overwritten run waits until the job that takes its place has started
ASIDE_NAME = ".overwritten"
GOING = ".deleted_"  # the start of the names of folders that are being deleted
SHOWN_DIFFERENCES = 8
TRAINING = "training"  # the claim of the process that trains in a folder

logger = logging.getLogger(__name__)


def check_run_folder(cfg: DictConfig, resume: bool, overwrite: bool, can_resume: bool = True) -> None:
    """Refuse a folder that holds another run, before anything is written.

    Args:
        cfg: the config of the run that wants to start.
        resume: it goes on with what is in the folder; its config must be the same.
        overwrite: the person said that what is there may go (or, with `resume`, that the config may differ).
        can_resume: the tool that asks has the flag for `resume`, so that it may be proposed.

    Raises:
        UserError: the folder holds a run with another config, or one that would be overwritten; a run is at work
            there, or an evaluator, which overwriting would leave without its files; the config reads what overwriting
            deletes; the folder can't be made, or something else has a name that a run writes to.
    """
    files = RunFolder(cfg.train.output_dir)
    files.check()
    folder, present = files.path, files.config
    claims = Claims(folder)
    if claims.is_surely_taken(TRAINING):
        raise _at_work(folder, claims)
    if overwrite and not resume:
        _check_nobody_evaluates(files)
        _check_reads_nothing_of(files, cfg)
    if overwrite:
        return
    changed, added = _differences(load_config(present), cfg) if present.is_file() else ([], [])
    if resume and added and not changed:
        logger.info("keys that the run in %s had not yet, with their values now: %s", folder, ", ".join(added))
    differences = changed if resume else [*changed, *added]
    if differences:
        shown = "\n".join(f"    {line}" for line in differences[:SHOWN_DIFFERENCES])
        more = f"\n    and {len(differences) - SHOWN_DIFFERENCES} more" if len(differences) > SHOWN_DIFFERENCES else ""
        if resume:
            fix = "--overwrite goes on with the new config"
        elif can_resume and not changed:
            fix = "--resume goes on with that run and these new keys, --overwrite deletes it"
        else:
            fix = "--overwrite deletes that run"
        raise UserError(
            f"the output folder {folder} holds a run with another config:\n{shown}{more}",
            f"choose another train.output_dir; {fix}",
        )
    if not resume and files.holds_checkpoint():
        raise UserError(
            f"the output folder {folder} holds checkpoints of this very config"
            if present.is_file()
            else f"the output folder {folder} holds checkpoints of a run without its config.yaml",
            f"{'--resume goes on from the last one, ' if can_resume else ''}--overwrite deletes that run, or choose "
            "another train.output_dir",
        )


def _differences(recorded: DictConfig, cfg: DictConfig) -> tuple[list[str], list[str]]:
    """What differs from the recorded config, and what that has not at all, such as defaults that came later.

    That the folder was moved since, or is written another way, is no difference.
    """
    if OmegaConf.select(recorded, "train.output_dir"):
        recorded.train.output_dir = cfg.train.output_dir
    new = {f"{key}: added" for key in keys_missing_in(recorded, cfg)}
    lines = diff_configs(recorded, cfg)
    added = [line for line in lines if line.partition(" -> ")[0] in new]
    return [line for line in lines if line not in added], added


@contextmanager
def claimed_run_folder(folder: str | Path, stale_seconds: float = STALE_SECONDS) -> Iterator[Claim]:
    """Make the folder and be the only one who trains in it, among the processes of all machines that share it.

    What a dead process of this machine had claimed is free at once; of one on another machine it takes `stale_seconds`
    to tell. A folder that is made here and stays empty is removed again. Gives the claim, which `check_claim` looks at.

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
        yield claim
    finally:
        claim.release()
        for path in made:
            if not path.is_dir() or any(path.iterdir()):
                break
            path.rmdir()


def check_claim(claim: Claim) -> None:
    """Claim the folder again where somebody has deleted it, so that no other run begins there.

    Raises:
        RunFailure: one has begun already.
        OSError: the folder can't be made.
    """
    claim.folder.mkdir(parents=True, exist_ok=True)
    if not claim.renew():
        tell_failures_in(None)
        raise RunFailure(
            f"another run has begun in {claim.folder}, which was deleted while this run was at work there",
            "nothing more of this run is saved: start it again with another train.output_dir",
        )


def open_run_folder(cfg: DictConfig, resume: bool, overwrite: bool) -> None:
    """Clear what an overwritten run or a killed process left, and save the config.

    Called when nothing can keep the new run from starting any more: what is deleted here is gone. All of the run that
    is overwritten, or nothing, is moved away first: a folder of another user, or one that is mounted there, can't be.

    Raises:
        UserError: a part of that run can't be moved away, or nothing can be written there.
    """
    files = RunFolder(cfg.train.output_dir)
    folder = files.path
    with _explained_refusal(folder):
        folder.mkdir(parents=True, exist_ok=True)
        replaced = files.own_files() if overwrite and not resume and files.holds_run() else []
        aside = folder / ASIDE_NAME
        if going := [*replaced, *([aside] if aside.is_dir() else [])]:
            _move(going, Path(tempfile.mkdtemp(prefix=GOING, dir=folder)))
        _delete_what_goes(folder)
        if replaced:
            logger.info("deleted the run that was in %s: %s", folder, ", ".join(sorted(path.name for path in replaced)))
        files.remove_leftovers()
        (folder / FAILURE_FILE).unlink(missing_ok=True)
        if not (resume and files.is_under_way()):  # else it was meant for the run that goes on
            files.stop.unlink(missing_ok=True)
        save_config(cfg, files.config)


@contextmanager
def prepared_run_folder(cfg: DictConfig, resume: bool, overwrite: bool) -> Iterator[None]:
    """Save the config for a job that opens the folder when it starts; the run that it replaces is set aside until then.

    Where the block fails, all is as it was.
    """
    files = RunFolder(cfg.train.output_dir)
    folder, config = files.path, files.config
    aside = folder / ASIDE_NAME
    before = config.read_bytes() if config.is_file() else None
    is_aside = False
    try:
        with _explained_refusal(folder):
            folder.mkdir(parents=True, exist_ok=True)
            if overwrite and not resume and files.holds_run():
                if aside.is_dir():  # of a job that never started: the run that is there is to stay
                    for path in files.own_files():
                        _delete(path)
                else:
                    aside.mkdir()
                    _move(files.own_files(), aside)
                    is_aside = True
            if not (resume and files.is_under_way()):
                files.stop.unlink(missing_ok=True)
            save_config(cfg, config)
        yield
    except BaseException:
        if is_aside:
            _move_back(aside)
        elif before is not None:
            config.write_bytes(before)
        if before is None and config.is_file():
            config.unlink()
        raise


def _move(paths: Sequence[Path], place: Path) -> None:
    """Move files and folders of a run folder into an empty folder in it: all of them, or none, and it is gone then."""
    try:
        move_all({path: place / path.name for path in paths})
    except BaseException:
        place.rmdir()
        raise


def _move_back(place: Path) -> None:
    """Undo `_move`; what has come in the place of a file meanwhile is replaced."""
    for path in place.iterdir():
        path.replace(place.parent / path.name)
    place.rmdir()


def _delete_what_goes(folder: Path) -> None:
    """Delete what was moved away to be deleted, also by a start that was killed; what can't be deleted stays there."""
    for going in folder.glob(f"{GOING}*"):
        shutil.rmtree(going, ignore_errors=True)
        if going.exists():
            logger.warning("%s is of a run that was overwritten, and can't be deleted: delete it yourself", going)


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


def _at_work(folder: Path, claims: Claims, who: str = "another run", name: str = TRAINING) -> UserError:
    owner = claims.owner(name)
    return UserError(
        f"{who} is at work in {folder}: process {owner.get('pid')} on {owner.get('host')}, since {owner.get('time')}",
        "let it end, or choose another train.output_dir",
    )


def _check_nobody_evaluates(files: RunFolder) -> None:
    claims = Claims(files.evaluator)
    for name in claims.names():
        if claims.is_surely_taken(name):
            raise _at_work(files.path, claims, "an evaluator", name)


def _check_reads_nothing_of(files: RunFolder, cfg: DictConfig) -> None:
    """Refuse to overwrite a run that the new one is made of."""
    deleted = [Path(os.path.realpath(path)) for path in files.own_files()]  # Path.resolve raises at a link to itself
    for key, value in flatten(cfg).items():
        if isinstance(value, str) and key.startswith(("train.init_checkpoint", "dataloader.", "model.")):
            read = Path(os.path.realpath(value.partition("?")[0]))
            if any(read == path or path in read.parents for path in deleted):
                raise UserError(
                    f"{key}={value} belongs to the run that --overwrite deletes",
                    "choose another train.output_dir, or move that file out of the folder",
                )
