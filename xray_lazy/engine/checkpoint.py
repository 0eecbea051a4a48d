"""Save and load checkpoints in detectron2's format: whole or not at all, and without running code from files."""

import errno
import logging
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from detectron2.checkpoint import DetectionCheckpointer
from torch import nn

from xray_lazy.data.loaders import is_worker_death
from xray_lazy.engine.weights.input_channels import fit_input_channels
from xray_lazy.engine.weights.weights_file import read_weights_file
from xray_lazy.errors import RunFailure, UserError
from xray_lazy.run_folder import RunFolder
from xray_lazy.utils.atomic_file import atomic_writer, write_bytes, write_text
from xray_lazy.utils.wording import counted

logger = logging.getLogger(__name__)


class KeptFiles:
    """Small files without which the checkpoints of a run are of little use, written anew where somebody deletes them.

    Args:
        paths: as they are now; those that are not there are left out.
    """

    def __init__(self, *paths: Path):
        self._contents = {path: path.read_bytes() for path in paths if path.is_file()}

    def restore(self) -> None:
        """Write those again that are gone; raises OSError where that can't be."""
        for path, content in self._contents.items():
            if not path.exists():
                write_bytes(path, content)
                message = f"{path} was deleted while the run was at work: it is written again"
                logger.warning("%s", message)


class Checkpointer(DetectionCheckpointer):
    """detectron2's checkpointer with atomic files, safe loading and short messages.

    A file holds `model`, each checkpointable's state by its name, and `iteration`, the last one that was done.

    Attributes:
        must_fit: refuse weights that would leave some of the model's as initialised, which only training can mend.
        named_by: where the user names the file to load, for messages.
        fit_classes: called with a file's content and path, gives its weights as a model with other classes has them.
        class_names: of the model's classes, which each file that is written tells.
        kept: files that are put back before each checkpoint, which is of little use without them.
        check_folder: called before each checkpoint; raises RunFailure where the folder is another run's by now.
    """

    must_fit = False
    fit_classes: Callable[[dict[str, Any], str], dict[str, Any]] | None = None
    class_names: Sequence[str] = ()
    named_by = "train.init_checkpoint"
    kept = KeptFiles()
    check_folder: Callable[[], object] = bool

    def save(self, name: str, tag_last: bool = True, **extra: Any) -> None:
        """Write `<name>.pth`; with `tag_last`, a resumed run starts from it.

        Raises:
            RunFailure: it can't be written; earlier checkpoints are untouched.
        """
        if not (self.save_dir and self.save_to_disk):
            return
        states = {key: checkpointable.state_dict() for key, checkpointable in self.checkpointables.items()}
        self.write(name, {"model": self.model.state_dict(), **states, **extra})
        if tag_last:
            self.tag_last_checkpoint(f"{name}.pth")

    def write(self, name: str, content: dict[str, Any]) -> Path:
        """Write `content` as `<name>.pth`; raises as `save`."""
        if self.class_names:
            content = {**content, "class_names": list(self.class_names)}
        path = RunFolder(self.save_dir).checkpoint(name)
        try:
            self.check_folder()
            self.kept.restore()
            with atomic_writer(path) as stream:
                torch.save(content, stream)
        except (OSError, RuntimeError) as error:  # torch reports a failed write as a RuntimeError
            _raise_what_a_signal_raised(error)
            reason, fix = str(error).splitlines()[0], "mend the folder's rights"
            if not isinstance(error, OSError) or error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                free = shutil.disk_usage(self.save_dir).free / 2**20
                reason, fix = f"{reason} ({free:.0f} MiB are free now)", "free some space"
            raise RunFailure(
                f"can't save the checkpoint {path}: {reason}",
                f"{fix}, then go on with --resume; earlier checkpoints are untouched",
            ) from None
        logger.info("saved %s", path)
        return path

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        write_text(RunFolder(self.save_dir).last, last_filename_basename)

    def resume(self) -> int:
        """Load the newest checkpoint that can be read, with all states; returns the next iteration.

        Raises:
            UserError: none can be read, or none is of this model.
        """
        self.must_fit = True  # the optimizer's state is that of weights of the same shapes
        reasons = []
        for path in RunFolder(self.save_dir).resumable():
            try:
                content = self.load(str(path))
            except UserError as error:
                logger.warning("%s; trying the checkpoint before it", error.message)
                reasons.append(error.message)
                continue
            return content.get("iteration", -1) + 1
        why = f": {reasons[0]}" if reasons else ""
        raise UserError(
            f"none of the checkpoints in {self.save_dir} can be read{why}",
            "start anew in another train.output_dir; train.init_checkpoint takes the weights of any file that is whole",
        )

    def get_checkpoint_file(self) -> str:
        """The one to resume from, also where `last_checkpoint` was damaged; "" where there is none."""
        return str(next(iter(RunFolder(self.save_dir).resumable()), ""))

    def has_checkpoint(self) -> bool:
        return RunFolder(self.save_dir).holds_checkpoint()

    def load(self, path: str, checkpointables: list[str] | None = None) -> dict[str, Any]:
        """Load weights, and the states of `checkpointables` (default: all that the file has).

        Raises:
            UserError: the file can't be fetched or read, or does not belong to this model at all.
        """
        if not path:
            logger.info("no train.init_checkpoint: training starts from scratch")
            return {}
        try:
            return super().load(path, checkpointables)
        except UserError:
            raise
        except (OSError, AssertionError) as error:
            if Path(path).is_dir():
                raise UserError(f"the checkpoint {path} is a folder", _file_within(Path(path))) from None
            scheme, is_address, _ = str(path).partition("://")
            if is_address and isinstance(error, AssertionError):  # it was taken for a file
                raise UserError(
                    f"nothing here loads {scheme}:// ({path})",
                    "download the file and give its path; timm:// is for models with a backbone of timm",
                ) from None
            raise UserError(
                f"can't load the checkpoint {path}: {error}",
                f"give the path of a file that is there in {self.named_by}, or a URL that this machine reaches",
            ) from None
        except (ValueError, KeyError) as error:
            raise UserError(
                f"the states in {path} don't fit this run: {error}",
                "was the optimizer or the model changed? Start anew with train.init_checkpoint set to that file",
            ) from None
        finally:
            self._parsed_url_during_load = None  # detectron2 leaves it set where loading failed, and then loads no more

    def _load_file(self, filename: str) -> dict[str, Any]:
        content = read_weights_file(filename)
        if expected := content.pop("expected", None):
            expected.check(self.model)
        content["model"] = fit_input_channels(self.model, content["model"], filename, self.named_by, self.must_fit)
        if self.fit_classes is not None:
            content["model"] = self.fit_classes(content, filename)
        if (
            self._parsed_url_during_load is not None
            and "matching_heuristics=True" in self._parsed_url_during_load.query
        ):
            content["matching_heuristics"] = True
        return content

    def _log_incompatible_keys(self, incompatible: Any) -> None:
        shapes = incompatible.incorrect_shapes
        mismatched = [f"{name} {_shape(there)} -> {_shape(here)}" for name, there, here in shapes]
        missing = [key for key in incompatible.missing_keys if key not in {name for name, _, _ in shapes}]
        # torch fills in these counters by itself, so that they are never missing
        loadable = sum(not name.endswith("num_batches_tracked") for name in self.model.state_dict())
        if loadable and len(missing) + len(mismatched) == loadable:
            there = f" has {_summary(incompatible.unexpected_keys, 3)}," if incompatible.unexpected_keys else ""
            raise UserError(
                f"the checkpoint contains none of this model's weights: it{there or ' has none of these names;'} "
                f"the model has {_summary(list(self.model.state_dict()), 3)}",
                f"is it of another model? Look at {self.named_by}",
            )
        if self.must_fit:
            self._refuse_misfits(mismatched, missing)
        if mismatched:
            logger.warning(
                "re-initialised %d weights whose shape differs from the checkpoint's, as with another number of "
                "classes: %s",
                len(mismatched),
                ", ".join(mismatched),
            )
        if missing:
            logger.warning("not in the checkpoint, left as initialised: %s", _summary(missing))
        if incompatible.unexpected_keys:
            logger.warning("in the checkpoint, but not in the model: %s", _summary(incompatible.unexpected_keys))

    def _refuse_misfits(self, mismatched: list[str], missing: list[str]) -> None:
        learned = {name for name, _ in self.model.named_parameters()}  # buffers have their values without a file
        absent = [name for name in missing if name in learned]
        if mismatched or absent:
            differ = (
                [f"the shapes of {counted(len(mismatched), 'weight')} differ: {_summary(mismatched)}"]
                if mismatched
                else []
            )
            lack = [f"{len(absent)} are not there: {_summary(absent)}"] if absent else []
            raise UserError(
                f"the checkpoint does not fit the model; {'; '.join(differ + lack)}",
                f"take the config that it was trained with (its number of classes?), or other weights: {self.named_by}",
            )


def _file_within(folder: Path) -> str:
    """What to give in place of a folder."""
    weights = RunFolder(folder).weights()
    return f"give a file: {weights[0]}" if weights else "give a file of weights in it, or another one"


def _raise_what_a_signal_raised(error: BaseException | None) -> None:
    """Such as Ctrl-C while a file was written: torch then fails to end the file, and raises that instead."""
    while error is not None:
        if not isinstance(error, Exception) or is_worker_death(error):
            raise error
        error = error.__context__


def load_trained_weights(model: nn.Module, path: str, named_by: str = Checkpointer.named_by) -> dict[str, Any]:
    """Load weights that are used as they are, without training; returns what else the file has.

    Args:
        named_by: where the user named the file, for messages.

    Raises:
        UserError: the file can't be fetched or read, or lacks weights of the model in its shapes.
    """
    checkpointer = Checkpointer(model)
    checkpointer.must_fit, checkpointer.named_by = True, named_by
    return checkpointer.load(path)


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _summary(names: list[str], shown: int = 5) -> str:
    rest = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + rest
