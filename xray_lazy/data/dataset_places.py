"""Where data sets lie: by name (`xray_<scanner>_<split>`) below one folder, or anywhere as JSON file and folder.

A name may have a subset behind its split, as `xray_opixray_test_ol3` has.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from xray_lazy.errors import UserError

SPLITS = ("train", "val", "test")
# Annotation files and image folders name the validation split differently in the sets that users have.
IMAGE_FOLDERS = {"train": "train", "val": "valid", "test": "test"}
# Where a public set was imported, its splits share one folder of images, which is a link.
LINKED_IMAGES = "all"
# Beside its JSON files while an import puts them there; a killed one leaves it.
UNFINISHED_IMPORT = ".import-unfinished"
ROOT_VARIABLE = "XRAY_DATASETS"
DEFAULT_ROOT = "datasets/xray"


@dataclass(frozen=True)
class DatasetSource:
    """Where one COCO set lies."""

    name: str
    json_file: Path
    image_root: Path


class SetName(NamedTuple):
    """The parts of a set's name: `xray_opixray_test_ol3` is of scanner opixray, split test and subset ol3."""

    scanner: str
    split: str
    subset: str

    @property
    def file_name(self) -> str:
        """Of its JSON file."""
        return f"{self.split}_{self.subset}.json" if self.subset else f"{self.split}.json"


def set_name(name: str) -> SetName | None:
    """The parts of a name; None for one that names no set below the root."""
    match = re.fullmatch(rf"xray_(.+)_({'|'.join(SPLITS)})(?:_(.+))?", name)
    return SetName(match[1], match[2], match[3] or "") if match else None


def default_root() -> str:
    """The folder of the X-ray sets: the environment's `XRAY_DATASETS` if it is not empty, else `datasets/xray`."""
    return os.path.expanduser(os.environ.get(ROOT_VARIABLE) or DEFAULT_ROOT)


def find_source(reference: str | Mapping, root: str | None = None) -> DatasetSource:
    """Locate a data set.

    Args:
        reference: `xray_<scanner>_<split>`, or a mapping with `json_file`, `image_root` and, if wanted, `name`.
        root: the folder with `annotations/` and `images/`; default `default_root()`.

    Raises:
        UserError: the name is of another form, or there is no such set.
    """
    if isinstance(reference, Mapping):
        if missing := [key for key in ("json_file", "image_root") if not reference.get(key)]:
            raise UserError(
                f"a data set with {', '.join(map(str, reference)) or 'no key'} lacks {' and '.join(missing)}",
                "give {json_file: FILE.json, image_root: FOLDER} and, if wanted, name",
            )
        json_file, image_root = Path(reference["json_file"]), Path(reference["image_root"])
        source = DatasetSource(reference.get("name", json_file.stem), json_file, image_root)
    else:
        base, name = Path(root or default_root()), set_name(str(reference))
        if name is None:
            raise UserError(
                f"{reference!r} is not the name of a data set",
                "names are xray_<scanner>_<split> with split train, val or test; "
                "or give {json_file: FILE.json, image_root: FOLDER}",
            )
        images = base / "images" / name.scanner
        linked = images / LINKED_IMAGES
        source = DatasetSource(
            reference,
            base / "annotations" / name.scanner / name.file_name,
            linked if linked.is_dir() else images / IMAGE_FOLDERS[name.split],
        )
    refuse_pipe(source)
    if not source.json_file.is_file():
        is_unfinished = (source.json_file.parent / UNFINISHED_IMPORT).is_dir()
        fix = "an import of it was not finished: import it again, with --overwrite" if is_unfinished else ""
        raise UserError(
            f"data set {source.name}: there is no file {source.json_file}", fix or _where_else(reference, root)
        )
    if not source.image_root.is_dir():
        raise UserError(f"data set {source.name}: there is no folder {source.image_root}", "put the set's images there")
    return source


def refuse_pipe(source: DatasetSource) -> None:
    """A second reading of one would wait for ever.

    Raises:
        UserError: the set's JSON is a pipe or a device.
    """
    if source.json_file.exists() and not (source.json_file.is_file() or source.json_file.is_dir()):
        raise UserError(
            f"data set {source.name}: {source.json_file} is a pipe or a device, and a set is read several times",
            "write what comes out of it to a file, and name that",
        )


def full_name(reference: str | Mapping) -> str:
    """The name of a data set that `find_source` would locate."""
    if isinstance(reference, Mapping):
        return str(reference.get("name") or Path(reference.get("json_file") or "").stem)
    return str(reference)


def scanner_of(name: str) -> str:
    """`smith` for `xray_smith_val`; other names stay whole."""
    parts = set_name(name)
    return parts.scanner if parts else name


def short_names(references: Sequence[str | Mapping]) -> list[str]:
    """A name for each of several sets: the scanner's, or all whole where two sets are of one scanner.

    Raises:
        UserError: two sets have the same name.
    """
    names = [full_name(reference) for reference in references]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"two test sets are called {twice}", "name each once; one with json_file has the key name")
    short = [scanner_of(name) for name in names]
    return short if len(set(short)) == len(names) else names


def available_datasets(root: str | None = None) -> list[str]:
    """The names of the sets under `root`, sorted."""
    found = []
    for file in Path(root or default_root()).glob("annotations/*/*.json"):
        name = set_name(f"xray_{file.parent.name}_{file.stem}")
        if name and (name.scanner, name.file_name) == (file.parent.name, file.name):
            found.append(f"xray_{file.parent.name}_{file.stem}")
    return sorted(found)


def _where_else(reference: str | Mapping, root: str | None) -> str:
    """What to do where a set's file isn't there."""
    base = root or default_root()
    known = f"under {base} there are: {', '.join(names)}" if (names := available_datasets(root)) else ""
    if isinstance(reference, Mapping):  # neither the tools that make sets nor the root's variable change its path
        return f"give the path of a file that is there{known and f'; {known}'}"
    if known:
        return f"{known}; `tools/dataset.py import` makes others of public files"
    return (
        f"under {base} there are no sets; make them with `tools/dataset.py split` (`import` of public files, `demo`), "
        f"or set {ROOT_VARIABLE} or the config's `root`"
    )
