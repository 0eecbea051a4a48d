"""Under which name a number of the event storage is logged, by a table of patterns, and back."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from xray_lazy.errors import UserError

AXES = ("iteration", "epoch", "images_seen")  # they keep their names in every table
SHARED = "event/"


class LoggedNames:
    """Names by a table, so that no two numbers are ever logged under one name.

    Args:
        table: rows `[pattern of event names, logged name]`, or `[pattern, name, factor]` to multiply the values. `*`
            matches any text without slashes and `**` any, which replaces the same star in the name.
            `{split}` in a name becomes `test` or `val`. Of several rows that fit, the last one counts; an event name
            that none fits stays as it is.
        own: more rows, after those of the table.
        evaluated: the name of the evaluated data set, or names, as a config has them; `{split}` is `test` where each of
            them says so: `xray_smith_test`.

    Where two event names would be logged as one, that of the later row has the name, and the other is logged as
    `event/<event name>`.

    Raises:
        UserError: a row is none, or its name has other stars than its pattern.
    """

    def __init__(self, table: Sequence[Sequence], own: Sequence[Sequence] = (), evaluated: Any = None):
        split = "test" if _is_test(evaluated) else "val"
        self._rows = [_Row.read(row, split) for row in reversed([*table, *own])]
        self._known: dict[str, tuple[str, float]] = {}

    def logged(self, event: str) -> str:
        """The name under which the number that the event storage calls `event` is logged."""
        return self._look_up(event)[0]

    def scale(self, event: str) -> float:
        """What the values of `event` are multiplied with: 0.01 for AP of 0..1."""
        return self._look_up(event)[1]

    def event(self, logged: str) -> str | None:
        """The event storage's name of what is logged as `logged`; None where nothing is."""
        event = self._owner(logged)
        return event if event is not None and self.logged(event) == logged else None

    def both(self, name: str) -> tuple[str, str]:
        """Event name and logged name of a number, of which `name` is either."""
        event = self.event(name)
        event = name if event is None else event
        return event, self.logged(event)

    def _look_up(self, event: str) -> tuple[str, float]:
        if event not in self._known:
            name, scale = self._by_table(event)
            self._known[event] = (name, scale) if self._owner(name) == event else (f"{SHARED}{event}", 1.0)
        return self._known[event]

    def _by_table(self, event: str) -> tuple[str, float]:
        if event not in AXES:
            for row in self._rows:
                if (texts := row.pattern.texts_in(event)) is not None:
                    return row.name.filled(texts), row.scale
        return event, 1.0

    def _owner(self, name: str) -> str | None:
        """The one event name that may be logged as `name`."""
        if name in AXES:
            return name
        if name.startswith(SHARED):
            return name.removeprefix(SHARED)
        candidates = [row.pattern.filled(texts) for row in self._rows if (texts := row.name.texts_in(name)) is not None]
        return next((event for event in (*candidates, name) if self._by_table(event)[0] == name), None)


def names_of(cfg: DictConfig) -> LoggedNames:
    """The logged names of an experiment; those of the events, where it has no `train.tracking`."""
    tracking = OmegaConf.select(cfg, "train.tracking")
    if tracking is None:
        return LoggedNames([])
    evaluated = OmegaConf.select(cfg, "dataloader.test.dataset.names")
    return LoggedNames(tracking.tables[tracking.names], tracking.own, evaluated)


class Template:
    """A text in which `*` matches any text without slashes, and `**` any text."""

    def __init__(self, text: str):
        self.stars = re.findall(r"\*+", text)
        self._parts = re.split(r"\*+", text)
        stars = ["([^/]*)" if star == "*" else "(.*)" for star in self.stars]
        self._regex = re.compile(_alternate([re.escape(part) for part in self._parts], stars), re.DOTALL)

    def texts_in(self, text: str) -> tuple[str, ...] | None:
        """What the stars match; None if `text` doesn't fit."""
        match = self._regex.fullmatch(text)
        return match.groups() if match else None

    def filled(self, texts: Sequence[str]) -> str:
        """With `texts` in the places of the stars."""
        return _alternate(self._parts, texts)


@dataclass(frozen=True)
class _Row:
    pattern: Template
    name: Template
    scale: float

    @classmethod
    def read(cls, row: Any, split: str) -> "_Row":
        match list(row) if isinstance(row, Sequence) else row:
            case [str(pattern), str(name)]:
                scale = 1.0
            case [str(pattern), str(name), int() | float() as scale] if scale:
                pass
            case _:
                fix = "write [pattern, name], or [pattern, name, factor]"
                raise UserError(f"the table of logged names has the row {row!r}", fix)
        row = cls(Template(pattern), Template(name.replace("{split}", split)), float(scale))
        if row.pattern.stars != row.name.stars:
            message = f"{pattern!r} is to be logged as {name!r}, which has other stars"
            raise UserError(message, "write the same ones in both, so that each number keeps a name of its own")
        return row


def _alternate(parts: Sequence[str], between: Sequence[str]) -> str:
    return parts[0] + "".join(text + part for text, part in zip(between, parts[1:], strict=True))


def _is_test(evaluated: Any) -> bool:
    names = list(_set_names(evaluated))
    return bool(names) and all(re.search(r"(^|_)test(_|\d|$)", name) for name in names)


def _set_names(evaluated: Any) -> Iterable[str]:
    """Of data sets as `load_datasets` takes them: a name, a mapping with a name, or several of these."""
    if isinstance(evaluated, str):
        yield evaluated
    elif isinstance(evaluated, Mapping | DictConfig):
        yield str(evaluated.get("name") or Path(evaluated.get("json_file", "")).stem)
    elif evaluated is not None:
        for one in evaluated:
            yield from _set_names(one)
