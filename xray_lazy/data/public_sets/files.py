"""Where a set's images are, by their names."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from xray_lazy.data.convert.image_index import files_below
from xray_lazy.data.image_file import IMAGE_SUFFIXES


class Files:
    """The images below a folder.

    Args:
        folder: with all of its subfolders, which need not be as published.
        base: what the paths that `find` returns are relative to.
    """

    def __init__(self, folder: Path, base: Path):
        self._folder, self._base = folder, base
        self._by_stem: dict[str, list[Path]] | None = None

    def find(self, name: str) -> Path | None:
        """The image of a name, with or without folders and suffix; None where there is none, or several."""
        direct = self._folder / name
        if direct.suffix.lower() in IMAGE_SUFFIXES and direct.is_file():
            return direct.relative_to(self._base)
        suffix = Path(name).suffix.lower()
        stem = Path(name).stem if suffix in IMAGE_SUFFIXES else Path(name).name
        found = [path for path in self._places().get(stem, ()) if suffix not in IMAGE_SUFFIXES or path.suffix == suffix]
        return found[0] if len(found) == 1 else None

    def all(self) -> list[Path]:
        """All images, relative to the base, sorted."""
        return sorted(path for paths in self._places().values() for path in paths)

    def _places(self) -> dict[str, list[Path]]:
        if self._by_stem is None:
            self._by_stem = defaultdict(list)
            for path in files_below(self._folder) if self._folder.is_dir() else ():
                if path.suffix.lower() in IMAGE_SUFFIXES:
                    self._by_stem[path.stem].append((self._folder / path).relative_to(self._base))
        return self._by_stem


def same_contents(paths: Sequence[Path]) -> list[list[int]]:
    """Which of the files have the same bytes: groups of two and more, as places in the sequence."""
    groups: dict[bytes, list[int]] = defaultdict(list)
    for at, path in enumerate(paths):
        with path.open("rb") as stream:
            groups[hashlib.file_digest(stream, "sha256").digest()].append(at)
    return [places for places in groups.values() if len(places) > 1]
