"""Files that rows are trained with and that are made of the split's images: a library of items, scanners' colours."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.accuracy.protocols import Split, scanner_of
from benchmarks.accuracy.recipes import HERE


def threat_library(split: Split) -> Path:
    """The items of the training images."""
    library, train, images = beside(split, "threats"), split.train.resolve(), split.images.resolve()
    if not (library / "threats.json").is_file():
        run_tool("threats", train, "--images", images, "--output", library, "--overwrite")
    return library


def scanner_colours(split: Split) -> Path:
    """The colours of all scanners, also of the one that is tested on: they need no labels."""
    file, images = beside(split, "colours.json"), split.images.resolve()
    if not file.is_file():
        scanners = sorted({scanner_of(path.name) for path in images.iterdir()})
        named = [part for scanner in scanners for part in ("--scanner", f"s{scanner}", f"{images}/{scanner}*")]
        run_tool("colours", *named, "--output", file)
    return file


# by the names that overrides have in place of the paths
MADE = {"THREATS": threat_library, "COLOURS": scanner_colours}


def made_for(overrides: Sequence[str], split: Split) -> Mapping[str, str]:
    """Paths of the files that the overrides name, by that name; each is made once, beside the split's files."""
    return {name: str(make(split)) for name, make in MADE.items() if any(name in override for override in overrides)}


def beside(split: Split, name: str) -> Path:
    """A path in the folder of the split's files."""
    return split.train.resolve().parent / name


def run_tool(*arguments: str | Path) -> None:
    """Of `tools/dataset.py`."""
    subprocess.run([sys.executable, "tools/dataset.py", *map(str, arguments)], cwd=HERE.parents[1], check=True)
