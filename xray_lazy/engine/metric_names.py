"""Names of metrics: where more than one set of weights is evaluated, and what is better by them."""

import logging
import re
from collections.abc import Iterable

logger = logging.getLogger(__name__)


def possible_names(metric: str, suffixes: Iterable[str]) -> list[str]:
    """A metric's name, and its names where averaged weights alone are evaluated: `bbox/AP`, `bbox_EMA/AP`.

    Before the task there may be the name of a test set: `smith/bbox_EMA/AP`.

    Args:
        metric: as the user gives it.
        suffixes: of the evaluated models.
    """
    places = [match.start() for match in re.finditer("/", metric)]
    return [metric, *(metric[:place] + suffix + metric[place:] for suffix in suffixes for place in places)]


def better(metric: str) -> str | None:
    """Whether more or less of a metric is better, "max" or "min"; None where its name does not tell."""
    last = metric.rpartition("/")[2]
    if re.match(r"A[PR]([\dsml]*$|-|[\dsml]*-)", last):
        return "max"
    if match := re.match(r"P_(D|FA)@", last):
        return "max" if match[1] == "D" else "min"
    return "min" if "loss" in metric else None


def warn_of_worst(metric: str, mode: str, key: str) -> None:
    """Say so where the hook `key` looks for the worst weights."""
    right = better(metric)
    if right and right != mode:
        logger.warning("%s.mode is %s: that is the worst %s; set %s.mode=%s", key, mode, metric, key, right)
