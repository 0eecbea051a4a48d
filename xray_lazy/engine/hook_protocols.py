"""What a hook may have beside detectron2's `HookBase`; each of these is optional, and known by its names alone."""

from typing import Protocol, runtime_checkable


@runtime_checkable
class ChecksBefore(Protocol):
    def check(self) -> None:
        """Called before anything is written; raises UserError for what would fail later."""


@runtime_checkable
class SavesBeforeEvaluation(Protocol):
    def save_before_evaluation(self) -> None:
        """Called before weights are evaluated, which may take long, or fail."""


@runtime_checkable
class ComesLast(Protocol):
    comes_last: int
    """Called after the hooks without it, the lowest first: it writes or saves what the others did."""


@runtime_checkable
class GivesMetrics(Protocol):
    gives_metrics: int
    """Called before other hooks that an experiment adds, the lowest first: it evaluates, or makes what is evaluated."""


@runtime_checkable
class MayBeOff(Protocol):
    def why_never(self, metric: str) -> tuple[str, str] | None:
        """Why a metric that this hook would give is never measured, and what switches it on; None of all others."""


@runtime_checkable
class JoinsEvaluation(Protocol):
    def join_evaluation(self) -> None:
        """Put other weights into the trainer's `evaluated_models`, or observe its `evaluate`; called where checkpoints
        are evaluated beside training."""


@runtime_checkable
class JudgesMetrics(Protocol):
    judges_metrics: bool
    """Called after all hooks that may give a metric, and for each checkpoint that is evaluated beside training."""
    metric: str
    """That it judges."""


def judges_metrics(hook: object) -> bool:
    """Whether a hook is to judge checkpoints that are evaluated beside training."""
    return isinstance(hook, JudgesMetrics) and hook.judges_metrics
