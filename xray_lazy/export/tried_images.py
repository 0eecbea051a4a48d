"""Images to try an exported model on, as the network gets them: from the data set, from files, or made up."""

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from detectron2.config import instantiate
from omegaconf import DictConfig, OmegaConf

from xray_lazy.data.image_files.image_file import image_size
from xray_lazy.data.mapper import map_record
from xray_lazy.errors import UserError
from xray_lazy.export.facts import ModelFacts
from xray_lazy.export.runtime import fill_up


def images_to_try(
    cfg: DictConfig, facts: ModelFacts, files: Sequence[str], count: int
) -> Iterator[tuple[str, np.ndarray]]:
    """Names and images `(channels, H, W)`, 0..255, float32, at network-input size.

    Args:
        cfg: of the training; `dataloader.test` says how images are prepared, and which there are.
        facts: of the model.
        files: images; without any, the first ones of the test set, or made-up ones where it isn't at hand.
        count: images at most, where no files are given.

    A model of any size gets the first one turned by 90 degrees, too; then an image comes that is nearly white all over.
    """
    records = [_record(file) for file in files] if files else _of_data_set(cfg, "test")[:count]
    images = _mapped(cfg, records)
    if not records:
        images = ((f"made up {seed + 1}", _made_up(facts, seed)) for seed in range(count))
    for number, (name, image) in enumerate(images):
        yield name, _fitted(image, facts)
        if number == 0 and facts.dynamic:
            yield f"{name}, turned", _fitted(image.transpose(0, 2, 1), facts)
        if number == 0:
            empty = _nearly_white(_fitted(image, facts))
    yield "white", empty


def calibration_images(cfg: DictConfig, facts: ModelFacts, files: Sequence[str], count: int) -> Iterator[np.ndarray]:
    """Images that show which values are usual in a network: files, or some from all over the training set.

    Raises:
        UserError: no files are given, and the training set is not at hand.
    """
    records = [_record(file) for file in files] if files else _of_data_set(cfg, "train")
    if not records:
        raise UserError(
            "int8 needs images to calibrate on, and the training set is not here",
            "name some with --picture FILE, several times",
        )
    chosen = records[:: max(1, len(records) // count)][:count]
    return (_fitted(image, facts) for _, image in _mapped(cfg, chosen))


def _mapped(cfg: DictConfig, records: Sequence[dict]) -> Iterator[tuple[str, np.ndarray]]:
    mapper = instantiate(cfg.dataloader.test.mapper)
    for record in records:
        yield record["file_name"].rpartition("/")[2], map_record(mapper, record)["image"].numpy()


def _record(file: str) -> dict:
    width, height = image_size(file)
    return {"file_name": file, "height": height, "width": width, "annotations": []}


def _of_data_set(cfg: DictConfig, loader: str) -> list[dict]:
    if OmegaConf.select(cfg, f"dataloader.{loader}.dataset") is None:
        return []
    try:
        return list(instantiate(cfg.dataloader[loader].dataset))
    except UserError:  # the data may have stayed where the model was trained
        return []


def _nearly_white(image: np.ndarray) -> np.ndarray:
    """Darker to the lower right: of places that are all alike, which ones a model takes would be chance."""
    _, height, width = image.shape
    down, across = np.linspace(0, 10, height)[:, None], np.linspace(0, 13, width)
    return np.broadcast_to(255 - down - across, image.shape).astype(np.float32)


def _made_up(facts: ModelFacts, seed: int) -> np.ndarray:
    """Blots of colour, which a detector takes for something rather than white noise."""
    height, width = facts.input_size(facts.height, facts.width)
    size, channels = (height // 16 + 2, width // 16 + 2), len(facts.padding)
    coarse = np.random.default_rng(seed).uniform(0, 255, (*size, channels)).astype(np.float32)
    enlarged = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).reshape(height, width, channels)
    return enlarged.clip(0, 255).transpose(2, 0, 1)


def _fitted(image: np.ndarray, facts: ModelFacts) -> np.ndarray:
    """Brought to the size of a model of a fixed size."""
    _, height, width = image.shape
    if facts.dynamic:
        return np.ascontiguousarray(image, dtype=np.float32)
    height, width = facts.input_size(height, width)
    resized = cv2.resize(image.transpose(1, 2, 0), (width, height)).reshape(height, width, -1)
    return fill_up(resized.transpose(2, 0, 1), facts)
