"""Splits on disk: `annotations/<scanner>/{train,val,test}.json` beside `images/<scanner>/{train,valid,test}/`.

Everything is made in hidden folders beside its place and renamed at the end, the JSON files last, so that a data set is
either whole or not there. Images that are to be moved are deleted from their old place after that.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from xray_lazy.data.dataset_places import IMAGE_FOLDERS, SPLITS
from xray_lazy.data.split.plan import SplitPlan
from xray_lazy.errors import UserError
from xray_lazy.utils.atomic_file import write_text
from xray_lazy.utils.results_place import RECORD, check_as_written, check_no_input, move_all, record_written
from xray_lazy.utils.wording import counted

_UNFINISHED = ".split-unfinished"
_REPLACED = ".split-replaced"


def _copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)


def _link(source: Path, target: Path) -> None:
    """A hard link, or a symbolic one where the file system (or another one) does not allow that."""
    source = source.resolve()
    try:
        os.link(source, target)
    except OSError:
        os.symlink(source, target)


def _duplicate(source: Path, target: Path) -> None:
    """The first half of a move: a second name for the file, or a copy where the file system can't."""
    try:
        os.link(source.resolve(), target)
    except OSError:
        _copy(source, target)


TRANSFERS: dict[str, Callable[[Path, Path], None]] = {"copy": _copy, "link": _link, "move": _duplicate}


def write_splits(
    plans: Sequence[SplitPlan],
    output: str | os.PathLike,
    transfer: str = "copy",
    overwrite: bool = False,
    show_progress: bool = False,
) -> None:
    """Bring planned splits to disk: all of them, or on an error none.

    Args:
        plans: one for each scanner.
        output: the folder that holds `annotations/` and `images/`.
        transfer: `copy`; `link`: hard links, or symbolic ones to another file system; `move`.
        overwrite: replace splits of the same images.
        show_progress: draw a progress bar on stderr.

    Raises:
        UserError: a scanner is given twice, a split is there already, or overwriting would lose images or corrected
            annotations.
    """
    places = [_Place(Path(output), plan) for plan in plans]
    twice = {place.scanner for place in places if sum(other.scanner == place.scanner for other in places) > 1}
    if twice:
        raise UserError(
            f"scanner {', '.join(sorted(twice))} is given twice", "join its JSON files, or give other names"
        )
    for place in places:
        place.require_free(overwrite)
    try:
        for place in places:
            place.prepare(TRANSFERS[transfer], show_progress)
        move_all({old: new for place in places for old, new in place.renames().items()})
    finally:
        for place in places:
            place.remove_unfinished()
    if transfer == "move":
        _delete([source for place in places for source, _ in place.images()])


def _delete(images: Sequence[Path]) -> None:
    left = []
    for image in images:
        try:
            image.unlink(missing_ok=True)
        except OSError as error:
            left.append(f"{image} ({error.strerror})")
    if left:
        raise UserError(
            f"the split is complete, but {counted(len(left), 'image')} can't be deleted from the old place, "
            f"e.g. {left[0]}",
            "delete them yourself, or use --transfer link",
        )


class _Place:
    """Where one scanner's splits go."""

    def __init__(self, output: Path, plan: SplitPlan):
        self.plan = plan
        self.scanner = plan.export.scanner
        self.annotation_folder = output / "annotations" / self.scanner
        self.image_folder = output / "images" / self.scanner
        self.unfinished = self.annotation_folder / _UNFINISHED, self.image_folder / _UNFINISHED
        self.replaced = self.annotation_folder / _REPLACED, self.image_folder / _REPLACED

    def images(self) -> Iterator[tuple[Path, str]]:
        """Each image's file, and its path below the image folder."""
        for split, content in self.plan.parts.items():
            for image in content["images"]:
                name = image["file_name"]
                yield self.plan.export.image_folder / name, os.path.normpath(f"{IMAGE_FOLDERS[split]}/{name}")

    def present(self) -> list[Path]:
        """What of a split is there already; all of it is replaced, also what the new one has no share for."""
        files = [self.annotation_folder / f"{split}.json" for split in SPLITS]
        folders = [self.image_folder / folder for folder in IMAGE_FOLDERS.values()]
        return [path for path in files if path.exists()] + [path for path in folders if path.is_dir()]

    def require_free(self, overwrite: bool) -> None:
        present = self.present()
        if present and not overwrite:
            more = f" and {len(present) - 1} more" if len(present) > 1 else ""
            raise UserError(
                f"there is a split of {self.scanner} already: {present[0]}{more}",
                "take another --output or --scanner name, or replace it with --overwrite",
            )
        if folders := [path for path in present if path.is_dir()]:
            self._require_same_images(folders)
        files = [path for path in present if not path.is_dir()]
        check_no_input(files, [self.plan.export.json_file])
        check_as_written(files)

    def _require_same_images(self, folders: Sequence[Path]) -> None:
        """Whether every image of an old split is in the new one too, and comes from elsewhere."""
        replaced = {folder.resolve() for folder in folders}
        sizes = {}
        for source, _ in self.images():
            if replaced & set(source.resolve().parents):
                raise UserError(
                    f"{source} is part of the split of {self.scanner} that would be replaced",
                    "split into another --output",
                )
            sizes[os.path.normpath(source.relative_to(self.plan.export.image_folder))] = source.stat().st_size
        for folder in folders:
            for path in (p for p in folder.rglob("*") if p.is_file()):
                if sizes.get(str(path.relative_to(folder))) != path.stat().st_size:
                    raise UserError(
                        f"overwriting would lose images: {path} is not one of those that are to be split",
                        f"move {self.image_folder} away or delete it, then split again",
                    )

    def prepare(self, transfer: Callable[[Path, Path], None], show_progress: bool) -> None:
        """Make everything in the unfinished folders."""
        self.remove_unfinished()
        annotations, images = self.unfinished
        for split in self.plan.parts:
            (images / IMAGE_FOLDERS[split]).mkdir(parents=True)
        jobs = [(source, images / target) for source, target in self.images()]
        for parent in {target.parent for _, target in jobs}:
            parent.mkdir(parents=True, exist_ok=True)
        _transfer_all(transfer, jobs, self.scanner, show_progress)
        for split, content in self.plan.parts.items():
            write_text(annotations / f"{split}.json", json.dumps(content, ensure_ascii=False) + "\n")
        record_written(annotations, [f"{split}.json" for split in self.plan.parts])

    def renames(self) -> dict[Path, Path]:
        """What gives all its place, in this order: old JSON files go first and new ones come last."""
        for folder in self.replaced:
            folder.mkdir()
        record = self.annotation_folder / RECORD
        going = [*self.present(), *([record] if record.exists() else [])]
        annotations, images = self.unfinished
        coming = [(folder, self.image_folder) for folder in sorted(images.iterdir())]
        coming += [(file, self.annotation_folder) for file in sorted(annotations.iterdir())]
        return {path: path.parent / _REPLACED / path.name for path in going} | {
            path: folder / path.name for path, folder in coming
        }

    def remove_unfinished(self) -> None:
        for folder in (*self.unfinished, *self.replaced):
            shutil.rmtree(folder, ignore_errors=True)


def _transfer_all(transfer: Callable, jobs: Sequence[tuple[Path, Path]], title: str, show_progress: bool) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    pool = ThreadPoolExecutor(8)  # the disk or the network sets the pace, not the cores
    try:
        hidden = not (show_progress and console.is_terminal)
        with Progress(*columns, console=console, transient=True, disable=hidden) as progress:
            for _ in progress.track(pool.map(lambda job: transfer(*job), jobs), total=len(jobs)):
                pass
    finally:
        pool.shutdown(cancel_futures=True)
