"""Files that are there under another name than a set gives them: with prefixes, backslashes, as an address."""

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import unquote

from xray_lazy.data.picture_file import PICTURE_SUFFIXES

_SEPARATORS = re.compile(r"[/\\=]")


def right_names(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Of names without a file, those whose last part exactly one file in the folder has, with that file's name.

    A file is given to one name only: where several end alike, none of them is told.
    """
    names = set(names)
    if not names:
        return {}
    files = defaultdict(list)
    for parent, _, members in os.walk(folder):
        for member in members:
            if Path(member).suffix.lower() in PICTURE_SUFFIXES:
                files[_key(member)].append(Path(parent, member).relative_to(folder).as_posix())
    right = {name: file for name in names if (file := _only_file(name, files))}
    claims = defaultdict(list)
    for name, file in right.items():
        claims[file].append(name)
    return {name: file for name, file in right.items() if len(claims[file]) == 1}


def _only_file(name: str, files: dict[str, list[str]]) -> str | None:
    for text in (name, re.split("[?#]", name)[0], unquote(re.split("[?#]", name)[0]), unquote(name)):
        found = files.get(_key(_SEPARATORS.split(text.strip())[-1]), ())
        if found:
            return found[0] if len(found) == 1 else None
    return None


def _key(name: str) -> str:
    # macOS writes an accent as a character of its own; Windows doesn't tell upper from lower case
    return unicodedata.normalize("NFC", name).casefold()
