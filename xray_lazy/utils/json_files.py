"""JSON files that the user names."""

import json
import os
from pathlib import Path
from typing import Any

from xray_lazy.errors import UserError


def read_json(path: str | os.PathLike, missing: str, fix: str) -> Any:
    """The content of a file.

    Raises:
        UserError: it is `missing`, or no JSON.
    """
    try:
        return json.loads(Path(path).read_bytes())
    except FileNotFoundError:
        raise UserError(missing, fix) from None
    except (IsADirectoryError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is not a JSON file: {error}", fix) from None
