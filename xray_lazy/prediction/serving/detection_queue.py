"""One thread that looks for items in what many requests wait for: as many scans at once as wait, up to a batch."""

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path

from xray_lazy.prediction.predictor import Prediction, Predictor


class DetectionQueue:
    """Files in, predictions out, each to whom it belongs; the network is used by this thread alone.

    Args:
        predictor: reads and detects, so that answers are those of `tools/predict.py`.
        on_batch: is told how many scans went through together.
    """

    def __init__(self, predictor: Predictor, on_batch: Callable[[int], None] = lambda count: None) -> None:
        self._predictor, self._on_batch = predictor, on_batch
        self._waiting: queue.SimpleQueue[tuple[Path, Future[Prediction]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="detect", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def submit(self, path: Path) -> "Future[Prediction]":
        """What is found in a file, which has to be there until then."""
        future: Future[Prediction] = Future()
        self._waiting.put((path, future))
        return future

    def close(self) -> None:
        """Answer what waits, and end the thread."""
        self._waiting.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (first := self._waiting.get()) is not None:
            batch, is_last = [first], False
            while len(batch) < self._predictor.batch_size and not is_last:
                try:
                    following = self._waiting.get_nowait()
                except queue.Empty:
                    break
                is_last = following is None
                batch += [following] if following else []
            self._answer(batch)
            if is_last:
                return

    def _answer(self, batch: Sequence[tuple[Path, "Future[Prediction]"]]) -> None:
        self._on_batch(len(batch))
        try:
            predictions = self._predictor.stream(path for path, _ in batch)
            for (_, future), prediction in zip(batch, predictions, strict=True):
                future.set_result(prediction)
        except BaseException as error:  # whoever waits is told, and the next ones are served
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
