"""Save and load checkpoints in detectron2's format: whole or not at all, and without running code from files."""

import logging
import re
import shutil
from pathlib import Path
from typing import Any

import torch
from detectron2.checkpoint import DetectionCheckpointer

from xray_lazy.atomic_file import atomic_writer, write_text
from xray_lazy.engine.weights_file import read_weights_file
from xray_lazy.errors import RunFailure, UserError

logger = logging.getLogger(__name__)

PERIODIC_NAME = re.compile(r"model_(\d{7})\.pth")


class Checkpointer(DetectionCheckpointer):
    """detectron2's checkpointer with atomic files, safe loading and short messages.

    A file holds `model`, each checkpointable's state by its name, and `iteration`, the last one that was done.
    """

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
        path = Path(self.save_dir) / f"{name}.pth"
        try:
            with atomic_writer(path) as stream:
                torch.save(content, stream)
        except (OSError, RuntimeError) as error:  # torch reports a failed write as a RuntimeError
            free = shutil.disk_usage(self.save_dir).free / 2**20
            raise RunFailure(
                f"can't save the checkpoint {path}: {str(error).splitlines()[0]} ({free:.0f} MiB are free)",
                "free some space, then go on with --resume; earlier checkpoints are untouched",
            ) from None
        logger.info("saved %s", path)
        return path

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        write_text(Path(self.save_dir) / "last_checkpoint", last_filename_basename)

    def resume(self) -> int:
        """Load the newest checkpoint that can be read, with all states; returns the next iteration.

        Raises:
            UserError: none can be read.
        """
        for path in self.resumable_files():
            try:
                content = self.load(str(path))
            except UserError as error:
                logger.warning("%s; trying the checkpoint before it", error.message)
                continue
            return content.get("iteration", -1) + 1
        raise UserError(
            f"none of the checkpoints in {self.save_dir} can be read", "start anew in another train.output_dir"
        )

    def resumable_files(self) -> list[Path]:
        """Checkpoints of this run, the one to resume from first."""
        periodic = periodic_files(self.save_dir)
        last = Path(self.get_checkpoint_file()) if self.has_checkpoint() else None
        if last and last.is_file():
            periodic = [last, *(p for p in periodic if p != last)]
        return periodic

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
            raise UserError(
                f"can't load the checkpoint {path}: {error}",
                "give the path of a file that is there in train.init_checkpoint, or a URL that this machine reaches",
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
        if (
            self._parsed_url_during_load is not None
            and "matching_heuristics=True" in self._parsed_url_during_load.query
        ):
            content["matching_heuristics"] = True
        return content

    def _log_incompatible_keys(self, incompatible: Any) -> None:
        mismatched = incompatible.incorrect_shapes
        if mismatched:
            shapes = ", ".join(f"{name} {_shape(there)} -> {_shape(here)}" for name, there, here in mismatched)
            logger.warning(
                "re-initialised %d weights whose shape differs from the checkpoint's, as with another number of "
                "classes: %s",
                len(mismatched),
                shapes,
            )
        missing = [key for key in incompatible.missing_keys if key not in {name for name, _, _ in mismatched}]
        if missing:
            logger.warning("not in the checkpoint, left as initialised: %s", _summary(missing))
        if incompatible.unexpected_keys:
            logger.warning("in the checkpoint, but not in the model: %s", _summary(incompatible.unexpected_keys))
        # torch fills in these counters by itself, so that they are never missing
        loadable = sum(not name.endswith("num_batches_tracked") for name in self.model.state_dict())
        if loadable and len(missing) + len(mismatched) == loadable:
            raise UserError(
                "the checkpoint has not one weight of this model",
                "is it of another model? Look at train.init_checkpoint",
            )


def periodic_files(folder: str | Path) -> list[Path]:
    """The periodic checkpoints of a run, newest first."""
    return sorted((p for p in Path(folder).glob("model_*.pth") if PERIODIC_NAME.fullmatch(p.name)), reverse=True)


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _summary(names: list[str], shown: int = 5) -> str:
    rest = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + rest


def remove_leftovers(folder: str | Path) -> None:
    """Delete the temporary files that a killed run left in its folder."""
    for path in Path(folder).glob(".*.tmp"):
        path.unlink(missing_ok=True)
