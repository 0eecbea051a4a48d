"""One history over all starts of a W&B run: nothing twice, and nothing missing that is on disk."""

import logging
import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from xray_lazy.tracking.logged_names import AXES
from xray_lazy.tracking.wandb_files import Part, Row

logger = logging.getLogger(__name__)


class ContinuedRun:
    """A W&B run whose `log` leaves out what the history has already; in all else it is W&B's run.

    A value counts by its name and the row's iteration; a row without new values is not logged.
    """

    def __init__(self, run: Any):
        self._run = run
        self._names: dict[int, set[str]] = {}
        self._unknown: list[range] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._run, name)

    def log(self, values: Mapping[str, Any]) -> None:
        iteration = values.get("iteration")
        if any(iteration in iterations for iterations in self._unknown):
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
        self._unknown.append(iterations)


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
    for part in earlier:
        if run.offline or part.is_begun:  # `wandb sync` lets the summary of the last part take the place of all others
            run.summary.update(part.summary())
    parts = [(part, part.rows()) for part in earlier]
    ends = _ends(parts, run)
    missing = []
    for (part, rows), end in zip(parts, ends, strict=True):
        for row in rows:
            if row.step < end:
                continued.has(row.values)
            elif row.values.get("iteration", start_iteration) < start_iteration:
                missing.append((part, row))
    if not run.offline:  # the server has what another machine's disk, or no disk, has
        for steps, iterations in _gaps(parts, ends, run):
            found = _rows_of_server(run, steps)
            for values in found:
                continued.has(values)
            if len(found) < len(steps):
                continued.has_all(iterations)
    for part, row in missing:
        _copy_media(part, row.values, run)
        continued.log(row.values)
        continued.has(row.values)
    return continued


def _ends(parts: Sequence[tuple[Part, Sequence[Row]]], run: Any) -> list[float]:
    """For each part the step up to which the history has its rows.

    What a killed start had not sent by then, the next one has not found: its rows have those steps. Of a part that was
    sent until something broke off, the server tells what it has.
    """
    ends, end = [], run.starting_step
    for part, rows in reversed(parts):
        is_whole = run.offline or (part.is_offline and not part.is_begun)
        ends.append(math.inf if is_whole else 0 if part.is_begun else end)
        if not part.is_offline:
            end = min([end, *(row.step for row in rows)])
    return ends[::-1]


def _gaps(
    parts: Sequence[tuple[Part, Sequence[Row]]], ends: Sequence[float], run: Any
) -> Iterator[tuple[range, range]]:
    """The rows that a server has and no part: their steps, and their iterations as far as what is around them tells.

    Parts that were recorded offline count from 0. W&B sends the summary, which tells a last iteration, less often than
    rows.
    """
    steps, done = 0, 0
    for (part, rows), end in zip(parts, ends, strict=True):
        before = steps if part.is_offline else 0
        for row in rows:
            if row.step < end:
                if before + row.step > steps:
                    yield range(steps, before + row.step), range(done, row.values.get("iteration", done))
                steps = before + row.step + 1
                done = max(done, row.values.get("iteration", -1) + 1)
    if run.starting_step > steps:
        yield range(steps, run.starting_step), range(done, int(run.summary.get("iteration", -1)) + 1)


def _rows_of_server(run: Any, steps: range) -> list[dict[str, Any]]:
    """The rows with these steps as the server tells them; none where it doesn't."""
    from wandb import Api

    try:
        rows = Api().run(run.path).scan_history(min_step=steps.start, max_step=steps.stop, use_cache=False)
        return [row for row in rows if row.get("_step") in steps]
    except Exception as error:  # whatever W&B's package or the server raises: the run goes on
        logger.debug("W&B doesn't tell the rows %s: %s", steps, error)
        return []


def _copy_media(part: Part, values: Mapping[str, Any], run: Any) -> None:
    """Have the files that a row's values name sent with it: images, their overlays, tables."""
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
