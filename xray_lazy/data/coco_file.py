"""Read a COCO JSON file as it is, with clear errors for what is not one."""

import json
import os
from pathlib import Path

from xray_lazy.errors import UserError

REQUIRED_LISTS = ("images", "annotations", "categories")


def read_coco(path: str | os.PathLike) -> dict:
    """The content of a COCO file: a dict with the lists `images`, `annotations` and `categories`.

    Nothing is corrected; `xray_lazy.data.check` finds the faults inside the lists.

    Raises:
        UserError: there is no such file, it is not JSON, or one of the three lists is missing.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"there is no annotation file {path}", _nearby(path)) from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder, not a COCO JSON file", _nearby(path / "x")) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid JSON: {error}", "export it again; the file may be cut off") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a JSON {type(content).__name__}, not a COCO object", _CONVERT)
    missing = [name for name in REQUIRED_LISTS if not isinstance(content.get(name), list)]
    if missing:
        raise UserError(f"{path} is not a COCO file: it has no list {' or '.join(missing)}", _CONVERT)
    return content


_CONVERT = "COCO needs the lists images, annotations and categories; `tools/dataset.py convert` makes one"


def _nearby(path: Path) -> str:
    found = sorted(str(p) for p in path.parent.glob("*.json"))[:5] if path.parent.is_dir() else []
    return f"in that folder there are: {', '.join(found)}" if found else f"the folder {path.parent} has no JSON files"
