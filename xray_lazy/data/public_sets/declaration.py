"""What a public set is declared by, and what a reader makes of its folder."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from xray_lazy.data.convert.label import Instance
from xray_lazy.errors import UserError
from xray_lazy.utils.wording import counted


@dataclass(frozen=True)
class Scan:
    """An image with what is annotated in it.

    Attributes:
        file: relative to the folder of its part of the set.
        instances: in pixels of `stated`, where that is given, else of the image; they may reach over its edge.
        group: the bag or the source. All images of a group go into one split.
        stated: (width, height) of the image as its label has it.
        view: of the bag that `group` is, where the set has several of each.
    """

    file: Path
    instances: tuple[Instance, ...] = ()
    group: str = ""
    stated: tuple[int, int] | None = None
    view: str = ""


@dataclass
class Notes:
    """What an import repaired or left out: how often, and one example, by what was done."""

    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, str] = field(default_factory=dict)

    def add(self, what: str, where: object, count: int = 1) -> None:
        """Note something that was done, in words that follow "3 times:"."""
        self.counts[what] = self.counts.get(what, 0) + count
        self.examples.setdefault(what, str(where))

    def lines(self) -> list[str]:
        """One for each thing that was done."""
        return [f"{self.counts[what]:,} x {what}, e.g. {self.examples[what]}" for what in self.counts]


def files_by_stem(folder: Path, suffix: str) -> dict[str, Path]:
    """The files in a folder with this suffix, in small or large letters, by their names without it."""
    found = sorted(path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []
    return {path.stem: path for path in found if path.suffix.lower() == suffix and not path.name.startswith(".")}


def require_labels(labels: Collection, count: int, images: str, place: Path) -> None:
    """See to it that some of a number of images have a label: without one they would all be empty bags.

    Raises:
        UserError: none of them has.
    """
    if count and not labels:
        raise UserError(
            f"none of the {counted(count, 'image')} in {images} has a label in {place}",
            "unpack all of the set, and leave its files where and as they are",
        )


@dataclass(frozen=True)
class Shares:
    """Splits that a set lacks are drawn with these shares, all images of a group together.

    Attributes:
        of: the subset that is divided, which stays as it is where it is no split's name itself.
        parts: names and shares, which sum to 1.
    """

    of: str
    parts: Mapping[str, float]


@dataclass(frozen=True)
class PublicSet:
    """A public X-ray set.

    Attributes:
        title: as its authors call it.
        page: where it is to be had.
        licence: in a few words.
        needs: paths in its folder without which it is another set, or not complete.
        read: gives the scans of each subset of a part: of its folder, with notes.
        classes: their names in order; empty where the labels alone tell them.
        parts: folders that are sets of their own (scanners), by the name that is put behind the set's.
        shares: splits that the set lacks.
        protocol: of `tools/analyze.py protocol`, where there is one.
    """

    title: str
    page: str
    licence: str
    needs: tuple[str, ...]
    read: Callable[[Path, tuple[str, ...], Notes], dict[str, list[Scan]]]
    classes: tuple[str, ...] = ()
    parts: Mapping[str, str] = field(default_factory=lambda: {"": "."})
    shares: tuple[Shares, ...] = ()
    protocol: str | None = None
