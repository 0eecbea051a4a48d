"""Names of metrics where more than one set of weights is evaluated."""

from collections.abc import Iterable


def possible_names(metric: str, suffixes: Iterable[str]) -> list[str]:
    """A metric's name, and its names where averaged weights alone are evaluated: `bbox/AP`, `bbox_EMA/AP`.

    Args:
        metric: as a person gives it.
        suffixes: of the evaluated models.
    """
    task, slash, rest = metric.partition("/")
    return [metric, *(f"{task}{suffix}/{rest}" for suffix in suffixes if slash)]
