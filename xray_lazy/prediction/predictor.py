"""Detect on many images: read ahead in threads, in batches of like sizes, results in the order of the images."""

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from detectron2.structures import Instances

from xray_lazy.data.check.values import is_whole
from xray_lazy.errors import RunFailure, UserError
from xray_lazy.prediction.backend_choice import detector_by
from xray_lazy.prediction.detector import Detector, Threshold, load_detector

Source = str | os.PathLike | np.ndarray


@dataclass(frozen=True)
class Prediction:
    """What was found in one image.

    Attributes:
        source: the file, or the image itself.
        image: (H, W, 3) BGR uint8, as people see it; None where there is a problem.
        instances: in pixels of the image, best first, on the CPU; `pred_masks`, from models with masks, is an
            `EncodedMasks`, whose `bitmaps()` are (N, H, W) bool. None where there is a problem.
        problem: why nothing could be looked for: the file can't be read, or the network can't work on its image.
    """

    source: Source
    image: np.ndarray | None = None
    instances: Instances | None = None
    problem: UserError | None = None


def check_threshold(threshold: Threshold) -> None:
    """Raises: UserError: one for all classes is no score."""
    is_no_number = threshold is None or isinstance(threshold, str)
    if is_no_number or (isinstance(threshold, int | float | np.floating) and not 0 <= threshold <= 1):
        raise UserError(f"the threshold is {threshold!r}", "scores are in 0..1")


class Predictor:
    """A detector for images of any number and size.

    Args:
        detector: finds the items.
        batch_size: images that go through the network together, where their sizes there are equal; what is found in
            an image does not depend on the others.
        score_threshold: items below it are left out; one for all classes, or one for each.
        threads: that read and resize images while the network works.

    Raises:
        UserError: a number has no meaning.
    """

    def __init__(
        self, detector: Detector, batch_size: int = 8, score_threshold: Threshold = 0.0, threads: int = 2
    ) -> None:
        for name, number in (("batch_size", batch_size), ("threads", threads)):
            if not is_whole(number) or number < 1:
                raise UserError(f"{name} is {number!r}", "give a whole number, 1 or more")
        check_threshold(score_threshold)
        self.detector = detector
        self.batch_size, self.score_threshold, self.threads = batch_size, score_threshold, threads

    @classmethod
    def of(
        cls,
        source: str | Path,
        weights: str | None = None,
        overrides: Sequence[str] = (),
        device: str = "auto",
        backend: str | None = None,
        **settings: float,
    ) -> "Predictor":
        """For a training's output folder, a config with weights, or an exported model's file.

        Args:
            backend: how to run a training's output folder: a key of `BACKENDS`, or "fastest" for what is the fastest
                on this processor. PyTorch in float32 without.
            settings: `batch_size`, `score_threshold` and `threads`.

        Raises:
            UserError: it can't be loaded.
        """
        if not isinstance(source, str | os.PathLike):
            raise UserError(f"{source!r} is no path of a model", "give that of a training's output folder or a file")
        if backend is None:
            return cls(load_detector(source, weights, overrides, device), **settings)
        return cls(detector_by(backend, source, weights, overrides, device), **settings)

    @property
    def class_names(self) -> tuple[str, ...]:
        """By class index; empty where nothing tells them."""
        return self.detector.class_names

    def __call__(self, source: Source) -> Instances:
        """What is found in one image: a file, or BGR (H, W, 3) uint8.

        Raises:
            UnreadableImage: of the file.
            RunFailure: the network can't work on the image.
        """
        return self.predict([source])[0]

    def predict(self, sources: Iterable[Source]) -> list[Instances]:
        """What is found in each of the images.

        Raises:
            UnreadableImage, RunFailure: of the first image that has a problem.
        """
        results = []
        for prediction in self.stream(sources):
            if prediction.problem is not None:
                raise prediction.problem
            results.append(prediction.instances)
        return results

    def stream(self, sources: Iterable[Source]) -> Iterator[Prediction]:
        """One prediction for each of the sources, in their order, as soon as it is there.

        At most 6 batches of images are held, of however many sources.

        Raises:
            UserError: `sources` is a single one.
        """
        if isinstance(sources, str | Path) or (isinstance(sources, np.ndarray) and sources.ndim < 4):
            raise UserError("stream() takes several sources, and this is one", "give a list: stream([source])")
        sources, window = iter(sources), 2 * self.batch_size
        ahead: deque[Future[_Loaded]] = deque()
        with ThreadPoolExecutor(self.threads, thread_name_prefix="read") as pool:
            try:
                self._read_ahead(sources, ahead, pool, 2 * window)
                while ahead:
                    loaded = [ahead.popleft().result() for _ in range(min(window, len(ahead)))]
                    self._read_ahead(sources, ahead, pool, 2 * window)
                    yield from self._detect(loaded)
            finally:
                for future in ahead:
                    future.cancel()

    def _read_ahead(self, sources: Iterator[Source], ahead: deque, pool: ThreadPoolExecutor, count: int) -> None:
        while len(ahead) < count:
            try:
                source = next(sources)
            except StopIteration:
                return
            ahead.append(pool.submit(self._load, source))

    def _load(self, source: Source) -> "_Loaded":
        try:
            if isinstance(source, np.ndarray):
                self._check_array(source)
                return _Loaded(source, source, self.detector.prepare(source), None)
            if not isinstance(source, str | os.PathLike):
                raise UserError(f"{type(source).__name__} is no image", "give a file, or a numpy array")
            return _Loaded(source, *self.detector.load(source), None)
        except UserError as problem:
            return _Loaded(source, None, None, problem)
        except Exception as error:
            return _Loaded(source, None, None, _problem(source, error))

    def _check_array(self, image: np.ndarray) -> None:
        is_eight_bits = not self.detector.reader.fingerprint()
        if image.ndim != 3 or not image.size or (is_eight_bits and image.dtype != np.uint8):
            raise UserError(
                f"an array of {image.dtype} with the shape {image.shape} is no image",
                "give (height, width, 3) uint8 in the order BGR, as cv2.imread reads it"
                if is_eight_bits
                else "give (height, width, channels) with the values that the model's reader gives",
            )

    def _detect(self, loaded: "list[_Loaded]") -> Iterator[Prediction]:
        """Predictions in order, each when the batches up to it are done."""
        groups: dict[tuple, list[int]] = {}
        for place, entry in enumerate(loaded):
            if entry.prepared is not None:
                groups.setdefault(self.detector.batch_key(entry.prepared), []).append(place)
        batch_of = {}
        for places in groups.values():
            for start in range(0, len(places), self.batch_size):
                batch = places[start : start + self.batch_size]
                batch_of |= dict.fromkeys(batch, batch)
        found: dict[int, Instances | UserError] = {}
        for place, entry in enumerate(loaded):
            if entry.prepared is not None and place not in found:
                items = self._detect_batch([loaded[other] for other in batch_of[place]])
                found |= dict(zip(batch_of[place], items, strict=True))
            result = found.pop(place, entry.problem)
            if isinstance(result, UserError):
                yield Prediction(entry.source, problem=result)
            else:
                yield Prediction(entry.source, entry.image, result)

    def _detect_batch(self, batch: "list[_Loaded]") -> list[Instances | UserError]:
        """What is found in each; where the batch fails, each is looked at alone, and only those that fail are lost."""
        inputs, sizes = [entry.prepared for entry in batch], [entry.image.shape[:2] for entry in batch]
        try:
            return self.detector.detect(inputs, sizes, self.score_threshold)
        except UserError:
            raise
        except Exception as error:
            if len(batch) == 1:
                return [_problem(batch[0].source, error)]
        # when the error has gone, whose frames hold the batch's memory
        return [result for entry in batch for result in self._detect_batch([entry])]


def _problem(source: Source, error: Exception) -> RunFailure:
    name = "{1}x{0}".format(*source.shape) if isinstance(source, np.ndarray) else source
    reason = (str(error).splitlines() or [""])[0]
    problem = RunFailure(f"image {name} can't be looked at: {type(error).__name__}: {reason}", "")
    problem.__cause__ = error
    return problem


@dataclass(frozen=True)
class _Loaded:
    """An image that was read, and the network's input made of it; or why there is none."""

    source: Source
    image: np.ndarray | None
    prepared: torch.Tensor | None
    problem: UserError | None
