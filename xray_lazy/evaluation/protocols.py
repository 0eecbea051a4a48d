"""What evaluators and models may have beside what detectron2 asks of them; each of these is optional."""

from pathlib import Path
from typing import Protocol, runtime_checkable


@runtime_checkable
class SavesResults(Protocol):
    def save(self, folder: Path) -> None:
        """Called on the first process after `evaluate`, with the folder of this evaluation."""


@runtime_checkable
class TakesEncodedMasks(Protocol):
    takes_encoded_masks: bool
    """`process` takes `EncodedMasks` as `pred_masks` as well as bitmaps (N, H, W)."""


@runtime_checkable
class UsesDetectorPostprocess(Protocol):
    uses_detector_postprocess: bool
    """`model(batch)` is detectron2's `detector_postprocess` of `model.inference(batch, do_postprocess=False)`, so that
    evaluation may encode masks without making bitmaps of images."""
