"""Names of metrics: where more than one set of weights is evaluated, and what is better by them."""

import logging
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from xray_lazy.config.suggest import did_you_mean, nearest
from xray_lazy.engine.hook_protocols import MayBeOff
from xray_lazy.errors import UserError

OWN_PACKAGES = ("xray_lazy.", "detectron2.")
NAMES_SHOWN = 12

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


def key_of(hook: Any) -> str:
    """Where a hook is in the config."""
    return f"hooks.{next(name for name, one in hook.trainer.named_hooks.items() if one is hook)}"


def check_name(metric: str, key: str, trainer: Any) -> None:
    """Refuse a metric that no evaluation of a training gives, or none with a value, before it begins.

    Names that look like none of an evaluation's are let pass: losses, and what models put. So are all where a hook or
    evaluator of the user's own may give them.

    Args:
        key: of the config, which names the metric.
        trainer: with its hooks and its `evaluate`.

    Raises:
        UserError: with near names.
    """
    ask = getattr(trainer.evaluate, "metric_names", None)
    names = ask() if ask else None
    hooks = trainer.named_hooks.values()
    if names is None or any(not type(hook).__module__.startswith(OWN_PACKAGES) for hook in hooks):
        return
    for hook in hooks:
        if isinstance(hook, MayBeOff) and (reason := hook.why_never(metric)):
            raise UserError(f"{key}: {metric} would never be measured: {reason[0]}", reason[1])
    # averaged weights have a suffix at the task
    plain = [metric, *(metric[: m.start()] + metric[m.end() :] for m in re.finditer(r"_[A-Z]+(?=/)", metric))]
    near = nearest(plain[-1], names)
    tasks = {name.partition("/")[0] for name in (*names, "screening/")}
    if known := set(plain) & set(names):
        _check_value(metric, known, key, names, trainer.evaluate.missing_metrics())
        return
    if not (near or plain[-1].partition("/")[0] in tasks):
        return
    listed = f"there are {', '.join(names[:NAMES_SHOWN])}{', ...' if len(names) > NAMES_SHOWN else ''}"
    rates = "; dataloader.evaluator.screening says which rates there are, if it is enabled"
    fix = (did_you_mean(near) or listed) + (rates if "screening/" in plain[-1] else "")
    raise UserError(f"{key}: no evaluation gives {metric}", fix)


def _check_value(metric: str, known: set[str], key: str, names: Sequence[str], missing: Mapping[str, str]) -> None:
    """Refuse a metric for which the test sets lack something; `known` are its names without suffixes."""
    reason = next((missing[name] for name in known if name in missing), "")
    if not reason:
        return
    measured = [name for name in names if name not in missing]
    near = _alike(min(known), measured)
    such = f"choose one that has a value, such as {near[0]}" if near else "evaluate a set that has"
    raise UserError(
        f"{key}: {metric} would have no value in any evaluation: {reason}",
        f"{such}, or leave the hook out: ~{key.removesuffix('.metric')}" if key.startswith("hooks.") else such,
    )


def _alike(metric: str, names: Sequence[str]) -> list[str]:
    """Those of the same task and figure first, as of another set; then those of the same figure; then near names."""
    *_, task, figure = ("", *metric.split("/"))
    return [
        *(name for name in names if f"/{name}".endswith(f"/{task}/{figure}")),
        *(name for name in names if name.endswith(f"/{figure}")),
        *nearest(metric, names),
    ]


def warn_of_no_number(metric: str, key: str, consequence: str, latest: Mapping[str, float]) -> None:
    """Tell of a metric that an evaluation gave without a number.

    Args:
        consequence: of it for the hook `key`.
        latest: what was logged.
    """
    others = [name for name, value in latest.items() if "/" in name and math.isfinite(value) and name != metric]
    near = _alike(metric, others)
    such = f", e.g. {key}.metric={near[0]}" if near else ""
    logger.warning(
        "%s has no number in this evaluation: %s. Its set may have no such items or bags; if it stays so, choose "
        "another metric%s",
        *(metric, consequence, such),
    )


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
