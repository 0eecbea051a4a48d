"""One history over all starts of a W&B run: nothing twice, and nothing missing that is on disk."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from xray_lazy.tracking.logged_names import AXES
from xray_lazy.tracking.wandb_files import Part, Row


class ContinuedRun:
    """A W&B run whose `log` leaves out what the history has already; in all else it is W&B's run.

    A value counts by its name and the row's iteration; a row without new values is not logged.
    """

    def __init__(self, run: Any):
        self._run = run
        self._names: dict[int, set[str]] = {}
        self._unknown = range(0)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._run, name)

    def log(self, values: Mapping[str, Any]) -> None:
        iteration = values.get("iteration")
        if iteration in self._unknown:
            return
        known = self._names.get(iteration, set())
        new = {name: value for name, value in values.items() if name not in known and name not in AXES}
        if new:
            self._run.log({**new, **{name: values[name] for name in AXES if name in values}})

    def has(self, values: Mapping[str, Any]) -> None:
        """Note a row that the history has."""
        if "iteration" in values:
            self._names.setdefault(values["iteration"], set()).update(values)

    def has_all(self, iterations: range) -> None:
        """Note that the history has all of these, whatever was logged there."""
        self._unknown = iterations


def continue_history(run: Any, earlier: Sequence[Part], start_iteration: int) -> Any:
    """Make a run that was opened again go on where its history ends.

    Args:
        run: W&B's run, just opened.
        earlier: what its earlier starts left on disk, the oldest first.
        start_iteration: rows of earlier iterations that W&B's server has not got are logged again; those after them
            come anyway.

    Returns:
        The run to log to.

    A server has a run's rows in their order, so that W&B's step, their number, tells which ones. Offline, the earlier
    parts are the history, and `wandb sync` puts them together.
    """
    if not earlier and not run.resumed:
        return run
    continued = ContinuedRun(run)
    if run.offline:  # `wandb sync` lets the summary of the last part take the place of all earlier ones
        for part in earlier:
            run.summary.update(part.summary())
    rows = [(part, row) for part in earlier for row in part.rows()]
    missing = []
    for part, row in rows:
        if run.offline or part.is_sent or part.is_offline or row.step < run.starting_step:
            continued.has(row.values)
        elif row.values.get("iteration", start_iteration) < start_iteration:
            missing.append((part, row))
    if run.starting_step > _steps(rows):  # the server has what another machine's disk, or no disk, has
        last = max((row.values.get("iteration", -1) for _, row in rows), default=-1)
        continued.has_all(range(last + 1, int(run.summary.get("iteration", -1)) + 1))
    for part, row in missing:
        _copy_media(part, row.values, run)
        continued.log(row.values)
        continued.has(row.values)
    return continued


def _steps(rows: Sequence[tuple[Part, Row]]) -> int:
    """W&B's step after these rows, or a later one; parts that were recorded offline count from 0."""
    online = max((row.step + 1 for part, row in rows if not part.is_offline), default=0)
    return online + sum(part.is_offline for part, _ in rows)


def _copy_media(part: Part, values: Mapping[str, Any], run: Any) -> None:
    """Have the files that a row's values name sent with it: pictures, their overlays, tables."""
    for name in _texts(values):
        source, copy = part.folder / "files" / name, Path(run.dir) / name
        if name.startswith("media/") and source.is_file():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, copy)
            run.save(str(copy), base_path=run.dir, policy="now")


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return [text for part in inner for text in _texts(part)]
