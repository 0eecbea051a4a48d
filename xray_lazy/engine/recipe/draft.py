"""A recipe while it is made: the config with what was advised, and the advice."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from xray_lazy.config import apply_overrides
from xray_lazy.config.fit import fit_at
from xray_lazy.config.keys import parts_of
from xray_lazy.config.names import dotted_name
from xray_lazy.config.override_text import override
from xray_lazy.errors import UserError

REMOVED = object()  # in the place of a value: the key is taken away


@dataclass(frozen=True)
class Setting:
    """A key that gets another value than the config's `before`; both are None where the key is removed."""

    key: str
    value: Any
    before: Any
    override: str


@dataclass(frozen=True)
class Advice:
    """What to set for one topic, which may be nothing, and why."""

    topic: str
    settings: tuple[Setting, ...]
    reason: str


@dataclass
class Draft:
    """The recipe until now.

    Attributes:
        config: as it is with all advice until now.
        given: keys that the person has set, which no advice changes.
        advice: in its order.
        cautions: what to know before trusting the figures of such a training.
    """

    config: DictConfig
    given: frozenset[str] = frozenset()
    advice: list[Advice] = field(default_factory=list)
    cautions: list[str] = field(default_factory=list)

    def get(self, key: str) -> Any:
        """The present value as plain data; None where there is none."""
        try:
            value = OmegaConf.select(self.config, key)
            return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
        except OmegaConfBaseException:
            return None

    def has(self, key: str) -> bool:
        """Whether the config has the key, whatever its value."""
        parent, _, part = key.rpartition(".")
        try:
            container = OmegaConf.select(self.config, parent)
        except OmegaConfBaseException:
            return False
        return OmegaConf.is_dict(container) and part in parts_of(container)

    def is_given(self, key: str) -> bool:
        """Whether the person has set the key, what is in it, or what it is in."""
        return any(key == own or key.startswith(f"{own}.") or own.startswith(f"{key}.") for own in self.given)

    def advise(self, topic: str, changes: Mapping[str, Any], reason: str) -> None:
        """Set what differs from the config and was not given; the reason is given also if nothing is changed.

        Args:
            topic: what the advice is about.
            changes: values by their keys, `REMOVED` for none; keys that the config hasn't are left out.
            reason: the rule, with the numbers that it was applied to.
        """
        wanted = {key: value for key, value in changes.items() if self._differs(key, value)}
        if kept := [key for key in wanted if self.is_given(key)]:
            reason += f"; you gave {', '.join(kept)}, which stays"
        settings = tuple(self._setting(key, value) for key, value in wanted.items() if key not in kept)
        try:
            self.config = apply_overrides(self.config, [setting.override for setting in settings])
        except UserError as error:  # a node of one's own that takes no such values
            reason, settings = f"{reason}; the config has no place for it: {error.message}", ()
        self.advice.append(Advice(topic, settings, reason))

    @property
    def overrides(self) -> list[str]:
        return [setting.override for advice in self.advice for setting in advice.settings]

    def _differs(self, key: str, value: Any) -> bool:
        return self.has(key) and (value is REMOVED or _named(self.get(key)) != _as_lists(value))

    def _setting(self, key: str, value: Any) -> Setting:
        if value is REMOVED:
            return Setting(key, None, None, f"~{key}")
        before = _named(self.get(key))
        return Setting(key, value, before, f"{_force(key, value, before)}{override(key, value)}")


def _force(key: str, value: Any, before: Any) -> str:
    """`++` where the present value is of another type."""
    try:
        fit_at(key.split("."), value, before)
    except (TypeError, UserError):
        return "++"
    return ""


def _named(value: Any) -> Any:
    """Plain data with classes and functions by their names, as advice and overrides have them."""
    if isinstance(value, Mapping):
        return {key: _named(child) for key, child in value.items()}
    if isinstance(value, list):
        return [_named(item) for item in value]
    return dotted_name(value) or repr(value) if callable(value) else value


def _as_lists(value: Any) -> Any:
    return [_as_lists(item) for item in value] if isinstance(value, Iterable) and not _is_leaf(value) else value


def _is_leaf(value: Any) -> bool:
    return isinstance(value, str | Mapping)
