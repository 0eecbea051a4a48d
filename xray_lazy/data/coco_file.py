"""Read a COCO JSON file as it is, with clear errors for what is not one."""

import codecs
import json
import os
import shlex
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from xray_lazy.errors import UserError
from xray_lazy.utils.wording import AS_UTF_8, not_utf_8

REQUIRED_LISTS = ("images", "annotations", "categories")
GZIP_START = b"\x1f\x8b"
_JSON_BEGINNINGS = (b"{", b"[", codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)  # else an image, an archive


# by the `id()` of an object, which is kept beside them, so that no other object gets its number
Repeated = dict[int, tuple[dict, tuple[str, ...]]]


def repeated_keys(entry: dict, repeated: Repeated) -> list[str]:
    """Keys that an entry of a COCO list, or its RLE, gives several times with different values."""
    found = (repeated[id(one)] for one in (entry, entry.get("segmentation")) if id(one) in repeated)
    return [key for _, keys in found for key in keys]


def read_coco(
    path: str | os.PathLike, needed: Sequence[str] = REQUIRED_LISTS, repeated: Repeated | None = None
) -> dict:
    """The content of a COCO file: a dict with the lists `images`, `annotations` and `categories`.

    Args:
        needed: the lists that it has to have; a set of images to predict on has `images` alone. Others that are none,
            such as null, are left out.
        repeated: is told which objects give keys several times with different values, of which the last counts.

    Nothing is corrected; `xray_lazy.data.check` finds the faults inside the lists.

    Raises:
        UserError: there is no such file, it is not JSON, or a list that is needed is missing or there twice.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
        if data.startswith(GZIP_START):
            raise UserError(f"{path} is compressed by gzip", f"unpack it: {_unpack(path)}")
        repeated = {} if repeated is None else repeated
        content = json.loads(data, object_pairs_hook=partial(_object, repeated=repeated))
    except FileNotFoundError:
        raise UserError(f"there is no annotation file {path}", _nearby(path)) from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder, not a COCO JSON file", _nearby(path / "x")) from None
    except UnicodeDecodeError as error:
        if not error.object.lstrip().startswith(_JSON_BEGINNINGS):
            raise UserError(f"{path} is no JSON file", "name the file with the annotations") from None
        raise UserError(f"{path} is {not_utf_8(error)}", AS_UTF_8) from None
    except ValueError as error:  # a number of thousands of digits is no JSONDecodeError
        reason = str(error).partition("; use sys.")[0]  # an advice for programs
        raise UserError(f"{path} is not valid JSON: {reason}", "export it again; the file may be cut off") from None
    except RecursionError:
        raise UserError(
            f"{path} has lists or objects inside of each other, deeper than any COCO file", "export it again"
        ) from None
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a JSON {type(content).__name__}, not a COCO object", _CONVERT)
    twice = [name for name in repeated.get(id(content), ({}, ()))[1] if name in REQUIRED_LISTS]
    if twice:
        raise UserError(
            f"{path} has the list {' and '.join(twice)} several times, of which one alone would count",
            "export it again, or join them by hand",
        )
    missing = [name for name in needed if not isinstance(content.get(name), list)]
    if missing:
        raise UserError(f"{path} is not a COCO file: it has no list {' or '.join(missing)}", _CONVERT)
    return {name: value for name, value in content.items() if isinstance(value, list) or name not in REQUIRED_LISTS}


def _object(pairs: list[tuple[str, Any]], repeated: Repeated) -> dict:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = tuple(dict.fromkeys(key for key, value in pairs if value != found[key]))
        if keys:
            repeated[id(found)] = found, keys
    return found


_CONVERT = "COCO needs the lists images, annotations and categories; `tools/dataset.py convert` makes one"


def _unpack(path: Path) -> str:
    unpacked = path.with_suffix("") if path.suffix == ".gz" else path.with_name(f"unpacked_{path.name}")
    return f"gunzip < {shlex.quote(str(path))} > {shlex.quote(str(unpacked))}"


def _nearby(path: Path) -> str:
    found = sorted(str(p) for p in path.parent.glob("*.json"))[:5] if path.parent.is_dir() else []
    return f"in that folder there are: {', '.join(found)}" if found else f"the folder {path.parent} has no JSON files"
