"""What a run writes into its output folder: the names, what stands in their way, and files that must not get lost."""

import logging
import os
from pathlib import Path

from xray_lazy.atomic_file import write_bytes
from xray_lazy.errors import UserError
from xray_lazy.failure import FAILURE_FILE

CONFIG_NAME = "config.yaml"
FOLDERS = ("tensorboard", "wandb", "evaluation", "evaluator", "visualizations", "profile", "analysis")
FILES = ("last_checkpoint", "run.json", "code*.diff", "log.txt*", "metrics.json", "report.html", FAILURE_FILE)
NUMBER = "[0-9]" * 7

logger = logging.getLogger(__name__)


def files_of_run(folder: Path) -> list[Path]:
    """What a run writes, and nothing that a person may have put beside it; its config, by which it is known, last."""
    names = (*FOLDERS, *FILES, f"model_{NUMBER}.pth", "model_final.pth", "model_final_ema.pth")
    # hooks that keep a best file by another metric name it themselves, and its record after it
    for best in {"best", *(record.stem for record in folder.glob("best*.json"))}:
        names += (f"model_{best}.pth", f"model_{best}_{NUMBER}.pth")
    return [path for name in (*names, "best*.json", CONFIG_NAME) for path in folder.glob(name)]


def check_output_folder(folder: Path) -> None:
    """Refuse a folder that can't be made, or in which something else stands where a run writes.

    Raises:
        UserError: a file has the name of a folder that a run makes, or a folder that of a file, or either is a pipe, a
            device or a link that leads nowhere.
    """
    there = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    if not there.is_dir():
        what = kind_of(there)
        raise UserError(f"there can be no output folder {folder}: {there} is {what}", "choose another train.output_dir")
    check_folders([folder / name for name in FOLDERS])
    for name in (*FILES, "model_*.pth", "best*.json", CONFIG_NAME):
        for path in (folder / name, *folder.glob(name)):
            if os.path.lexists(path) and not path.is_file():
                raise _in_the_way(path, "a file")


def check_folders(folders: list[Path]) -> None:
    """Refuse those that are there and are no folders; raises as `check_output_folder`."""
    for path in folders:
        if os.path.lexists(path) and not path.is_dir():
            raise _in_the_way(path, "a folder")


def kind_of(path: Path) -> str:
    """What has this name, in words."""
    if path.is_dir():
        return "a folder"
    if path.is_file():
        return "a file"
    return "a pipe or a device" if path.exists() else "a link that leads nowhere"


def _in_the_way(path: Path, wanted: str) -> UserError:
    return UserError(
        f"{path} is {kind_of(path)}, and a run makes {wanted} of that name", "move it away, or choose another folder"
    )


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
