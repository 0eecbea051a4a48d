"""Files that are there under another name than a set gives them: with prefixes, backslashes, as an address."""

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import unquote

from xray_lazy.data.image_files.image_file import IMAGE_SUFFIXES

_SEPARATORS = re.compile(r"[/\\=]")


def right_names(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Of names without a file, those whose last part exactly one file in the folder has, with that file's name.

    A file is given to one name only: where several end alike, none of them is told.
    """
    names = set(names)
    if not names:
        return {}
    files, stems = defaultdict(list), defaultdict(list)
    for parent, _, members in os.walk(folder):
        for member in members:
            if Path(member).suffix.lower() in IMAGE_SUFFIXES:
                path = Path(parent, member).relative_to(folder)
                files[_key(path.name)].append(path.as_posix())
                stems[_key(path.stem)].append(path.as_posix())
    right = {name: file for name in names if (file := _only_file(name, files, stems))}
    claims = defaultdict(list)
    for name, file in right.items():
        claims[file].append(name)
    return {name: file for name, file in right.items() if len(claims[file]) == 1}


def _only_file(name: str, files: dict[str, list[str]], stems: dict[str, list[str]]) -> str | None:
    """The one file that has the last part of a name; without its suffix where the name is no address and has none."""
    address = re.split("[?#]", name)[0]
    lasts = [_last_part(text) for text in (address, unquote(address), name, unquote(name))]
    found = next((files[last] for last in lasts if last in files), None)
    if found is None and address == name and not Path(lasts[0]).suffix:
        found = stems.get(lasts[0])
    return found[0] if found and len(found) == 1 else None


def _last_part(text: str) -> str:
    return _key(_SEPARATORS.split(text.strip())[-1])


def _key(name: str) -> str:
    # macOS writes an accent as a character of its own; Windows doesn't tell upper from lower case
    return unicodedata.normalize("NFC", name).casefold()
