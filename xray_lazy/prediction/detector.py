"""What finds items in images, whatever runs the network: a trained model here, an exported one elsewhere."""

import inspect
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import instantiate
from detectron2.data import transforms as T
from detectron2.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers
from detectron2.structures import Boxes, Instances
from omegaconf import OmegaConf
from torch import nn

from xray_lazy.data.image_reader import ImageReader, Reader
from xray_lazy.data.image_transforms import ImageInput, as_planes, resize
from xray_lazy.engine.trained_model import TrainedModel, load_trained_model
from xray_lazy.errors import UserError
from xray_lazy.evaluation.encoded_inference import postprocess
from xray_lazy.evaluation.tiling import TiledModel
from xray_lazy.export.average_precision import find_instances
from xray_lazy.export.facts import SUFFIXES, facts_path
from xray_lazy.export.runtime import load_exported
from xray_lazy.modeling.region_pooling import use_region_poolers
from xray_lazy.prediction.batch_norm_folding import fold_batch_norm
from xray_lazy.prediction.mask_inference import use_partwise_mask_heads
from xray_lazy.utils.wording import counted

Threshold = float | Sequence[float]


class Detector(ABC):
    """From images to items, in two steps: `prepare` can run in any thread, `detect` takes a batch.

    Attributes:
        class_names: by index; empty where nothing tells them.
        reader: how image files are read.
        input_format: "BGR" or "RGB", the order of colours that the network takes.
    """

    class_names: tuple[str, ...]
    reader: Reader = ImageReader()
    input_format: str = "BGR"

    def load(self, path: str | os.PathLike) -> tuple[np.ndarray, torch.Tensor]:
        """What people see of an image's file, BGR `(H, W, 3)` uint8, and the network's input."""
        image = self.reader.read(path, self.input_format)
        return self.reader.show(image, self.input_format), self._resized(image)

    def prepare(self, image: np.ndarray) -> torch.Tensor:
        """The network's input `(channels, h, w)` for a BGR image `(H, W, 3)` uint8, such as a video's frame; of other
        channels, for an image as the reader gives it.

        Raises:
            UserError: the network takes another number of channels.
        """
        if image.shape[2] != self.reader.channels:
            raise UserError(
                f"the image has {counted(image.shape[2], 'channel')}, the model takes {self.reader.channels}",
                "give it files that are like those that it was trained on",
            )
        is_turned = self.input_format == "RGB" and image.shape[2] == 3
        return self._resized(np.ascontiguousarray(image[:, :, ::-1]) if is_turned else image)

    @abstractmethod
    def _resized(self, image: np.ndarray) -> torch.Tensor:
        """The network's input for an image whose channels are in the network's order."""

    @abstractmethod
    def batch_key(self, prepared: torch.Tensor) -> tuple:
        """Inputs of equal keys can be detected in one batch without a difference to each of them."""

    @abstractmethod
    def find(self, inputs: Sequence[torch.Tensor], sizes: Sequence[tuple[int, int]]) -> list[Instances]:
        """Items in pixels of the inputs with masks `(N, 1, M, M)` of probabilities inside of their boxes.

        Or all in pixels of the images, which are of `sizes`, with masks `(N, height, width)`.
        """

    def detect(
        self, inputs: Sequence[torch.Tensor], sizes: Sequence[tuple[int, int]], score_threshold: Threshold = 0.0
    ) -> list[Instances]:
        """Items of a batch in pixels of the images, on the CPU, best first.

        Args:
            sizes: (height, width) of the images.
            score_threshold: items below it are left out; one for all classes, or one for each.

        Returns:
            detectron2's Instances, with `EncodedMasks` as `pred_masks` from models with masks.
        """
        with torch.inference_mode():
            found = self.find(inputs, sizes)
        return [_in_image(items, *size, score_threshold) for items, size in zip(found, sizes, strict=True)]


class TrainedDetector(Detector):
    """A trained model, made faster without another result: batch norms folded; on a CPU channels last, fast pooling
    and masks.

    Args:
        trained: its model is changed in place, and is no longer for training.
        plain: leave the model as it is.

    Raises:
        UserError: the config doesn't say how images are prepared, or the model finds no items.
    """

    def __init__(self, trained: TrainedModel, plain: bool = False) -> None:
        self.class_names = trained.class_names
        self.model = trained.model if plain else faster(trained.model)
        mapper = OmegaConf.select(trained.cfg, "dataloader.test.mapper")
        if mapper is None or "augmentations" not in mapper:
            raise UserError(
                "the config has no dataloader.test.mapper.augmentations: they say how images are resized",
                "add those of dataloader.test.mapper in configs/common/data",
            )
        self._augmentations = T.AugmentationList(instantiate(mapper.augmentations))
        self.input_format = mapper.get("image_format", "BGR")
        self.reader = (instantiate(mapper.reader) if mapper.get("reader") else None) or ImageReader()
        backbone = getattr(self.model, "backbone", None)
        self._divisor = max(1, getattr(backbone, "size_divisibility", 1))
        inference = getattr(self.model, "inference", None)
        self._can_leave_masks = inference is not None and "do_postprocess" in inspect.signature(inference).parameters
        self._tile_width = 0

    def look_at_tiles(self, width: int, overlap: int) -> None:
        """From now on, see images that are wider by tiles of this `width`, each resized as if it were an image.

        Raises:
            UserError: as `TiledModel`.
        """
        self.model = TiledModel(self.model, width, overlap)
        self._tile_width = width

    def _resized(self, image: np.ndarray) -> torch.Tensor:
        width = self._tile_width or image.shape[1]
        augmented = ImageInput(image[:, :width])
        self._augmentations(augmented)
        if width >= image.shape[1]:
            return as_planes(augmented.image)
        high, wide = augmented.image.shape[:2]
        return as_planes(resize(image, high, round(image.shape[1] * wide / width)))

    def batch_key(self, prepared: torch.Tensor) -> tuple:
        # a batch is filled up to a common size, which reaches into the results at the image's edge
        return tuple(-(-side // self._divisor) for side in prepared.shape[1:])

    def detect(
        self, inputs: Sequence[torch.Tensor], sizes: Sequence[tuple[int, int]], score_threshold: Threshold = 0.0
    ) -> list[Instances]:
        with _left_out_early(self.model, float(np.min(score_threshold))):
            return super().detect(inputs, sizes, score_threshold)

    def find(self, inputs: Sequence[torch.Tensor], sizes: Sequence[tuple[int, int]]) -> list[Instances]:
        pairs = zip(inputs, sizes, strict=True)
        batch = [{"image": image, "height": height, "width": width} for image, (height, width) in pairs]
        if self._can_leave_masks:
            return self.model.inference(batch, do_postprocess=False)
        outputs = self.model(batch)
        if any("instances" not in output for output in outputs):
            raise UserError(f"{type(self.model).__name__} finds no items: its outputs have no instances", "")
        return [output["instances"] for output in outputs]


class ExportedDetector(Detector):
    """A model that `tools/export.py` wrote.

    Args:
        path: of the model file; its facts lie beside it.
        device, library, precision: as `load_exported` takes them.
    """

    def __init__(
        self, path: str | Path, device: str = "auto", library: str | None = None, precision: str = "float32"
    ) -> None:
        self._model = load_exported(path, device, library, precision)
        self.facts = facts = self._model.facts
        self.class_names, self.input_format = facts.class_names, facts.input_format
        try:
            self.reader = ImageReader(**facts.reader)
        except (TypeError, ValueError, UserError) as error:
            reason = str(error).splitlines()[0]
            message = f"{facts_path(path)} is not the description of an exported model: its reader: {reason}"
            raise UserError(message, "export it again") from None

    def _resized(self, image: np.ndarray) -> torch.Tensor:
        return as_planes(resize(image, *self.facts.input_size(*image.shape[:2])))

    def batch_key(self, prepared: torch.Tensor) -> tuple:
        divisor = max(1, self.facts.size_divisibility)
        return tuple(-(-side // divisor) for side in prepared.shape[1:])

    def find(self, inputs: Sequence[torch.Tensor], sizes: Sequence[tuple[int, int]]) -> list[Instances]:
        return find_instances(self._model, inputs)


def load_detector(
    source: str | Path, weights: str | None = None, overrides: Sequence[str] = (), device: str = "auto"
) -> Detector:
    """The detector of a training's output folder, of a config with weights, or of an exported model's file.

    Args:
        overrides: of the config; an exported model has none.

    Raises:
        UserError: it can't be loaded.
    """
    source = Path(source)
    if not source.exists():
        raise UserError(
            f"there is no model {source}", "give a training's train.output_dir, or an exported model's file"
        )
    if source.is_dir() or (source.suffix not in SUFFIXES.values() and not facts_path(source).is_file()):
        return TrainedDetector(load_trained_model(source, weights, overrides, device))
    for given, name in ((weights, "--weights"), (list(overrides), "overrides of the config")):
        if given:
            raise UserError(f"{source} is an exported model: it takes no {name}", "export it anew with them")
    return ExportedDetector(source, device)


def faster(model: nn.Module) -> nn.Module:
    """The model itself, changed for inference; results stay the same within rounding."""
    fold_batch_norm(model)
    if next(model.parameters()).device.type == "cpu":
        model.to(memory_format=torch.channels_last)
        use_region_poolers(model)
        use_partwise_mask_heads(model)
    return model


@contextmanager
def _left_out_early(model: nn.Module, score_threshold: float) -> Iterator[None]:
    """Meanwhile R-CNN heads leave out items below the threshold before NMS and masks, which changes no other item."""
    predictors = [module for module in model.modules() if isinstance(module, FastRCNNOutputLayers)]
    thresholds = [predictor.test_score_thresh for predictor in predictors]
    # of their own threshold, items have to be above
    below = float(np.nextafter(np.float32(score_threshold), np.float32(-1)))
    try:
        for predictor, threshold in zip(predictors, thresholds, strict=True):
            predictor.test_score_thresh = max(threshold, below)
        yield
    finally:
        for predictor, threshold in zip(predictors, thresholds, strict=True):
            predictor.test_score_thresh = threshold


def _in_image(items: Instances, height: int, width: int, score_threshold: Threshold) -> Instances:
    thresholds = torch.as_tensor(score_threshold, dtype=torch.float64, device=items.scores.device)
    own = thresholds[items.pred_classes] if thresholds.ndim else thresholds
    items = postprocess(items[items.scores.double() >= own], {"height": height, "width": width})
    result = Instances((height, width))
    for name, values in items.to("cpu").get_fields().items():
        # copied out of the inference mode, in which tensors can't be changed later
        result.set(name, Boxes(values.tensor.clone()) if isinstance(values, Boxes) else _copied(values))
    return result


def _copied(values: Any) -> Any:
    return values.clone() if isinstance(values, torch.Tensor) else values
