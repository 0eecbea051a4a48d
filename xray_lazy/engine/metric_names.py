"""Names of metrics: where more than one set of weights is evaluated, and what is better by them."""

import logging
import re
from collections.abc import Iterable

logger = logging.getLogger(__name__)


def possible_names(metric: str, suffixes: Iterable[str]) -> list[str]:
    """A metric's name, and its names where averaged weights alone are evaluated: `bbox/AP`, `bbox_EMA/AP`.

    Args:
        metric: as the user gives it.
        suffixes: of the evaluated models.
    """
    task, slash, rest = metric.partition("/")
    return [metric, *(f"{task}{suffix}/{rest}" for suffix in suffixes if slash)]


def better(metric: str) -> str | None:
    """Whether more or less of a metric is better, "max" or "min"; None where its name does not tell."""
    last = metric.rpartition("/")[2]
    if re.match(r"A[PR]([\dsml]*$|-|[\dsml]*-)", last):
        return "max"
    return "min" if "loss" in metric else None


def warn_of_worst(metric: str, mode: str, key: str) -> None:
    """Say so where the hook `key` looks for the worst weights."""
    right = better(metric)
    if right and right != mode:
        logger.warning("%s.mode is %s: that is the worst %s; set %s.mode=%s", key, mode, metric, key, right)
