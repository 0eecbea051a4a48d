"""What evaluators and models may have beside what detectron2 asks of them; each of these is optional."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class SavesResults(Protocol):
    def save(self, folder: Path) -> None:
        """Called on the first process after `evaluate`, with the folder of this evaluation."""


@runtime_checkable
class JoinsSets(Protocol):
    def over_sets(self, evaluators: Sequence[Any]) -> Mapping[str, Mapping[str, float]]:
        """Called on the first process after all test sets, of which there may be one, with the evaluators of its kind
        of each, itself the first: metrics by task of all sets together, in the place of means."""
        ...


@runtime_checkable
class NamesMetrics(Protocol):
    def metric_names(self) -> Sequence[str]:
        """All that its evaluation may give, such as `bbox/AP`: others are refused before training, where nothing else
        can give them."""
        ...


@runtime_checkable
class TellsMissing(Protocol):
    def missing_metrics(self, evaluators: Sequence[Any]) -> Mapping[str, str]:
        """Asked with the evaluators of its kind of each test set, of which there may be one, itself the first: metrics
        that have no value in any evaluation of these sets together, and what they lack for it."""
        ...


@runtime_checkable
class TakesEncodedMasks(Protocol):
    takes_encoded_masks: bool
    """`process` takes `EncodedMasks` as `pred_masks` as well as bitmaps (N, H, W)."""


@runtime_checkable
class UsesDetectorPostprocess(Protocol):
    uses_detector_postprocess: bool
    """`model(batch)` is detectron2's `detector_postprocess` of `model.inference(batch, do_postprocess=False)`, so that
    evaluation may encode masks without making bitmaps of images."""
