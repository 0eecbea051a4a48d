"""Read a `metrics.json`, without what writing it imports."""

import json
from pathlib import Path


def read_json_lines(path: str | Path) -> list[dict]:
    """The values of a `metrics.json`, one dict per iteration, iterations ascending; of values given twice the last.

    What a crash left half-written is left out.
    """
    merged: dict[int, dict] = {}
    for text in Path(path).read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue
        if isinstance(line, dict) and "iteration" in line:
            merged.setdefault(line["iteration"], {}).update(line)
    return [merged[iteration] for iteration in sorted(merged)]
