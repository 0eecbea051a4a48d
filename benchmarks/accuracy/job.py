"""One training of a row of the table: what a trainer is given, and what it leaves in the job's folder.

A trainer is a file that is run as `python TRAINER JOB.json`, in the environment of its row. It imports nothing of
this repository but this file's neighbours. It trains for about `seconds` of processor time and writes
`detections.json` (COCO results of the test set) and `training.json` (`seconds`, `parameters`, and `iterations` or
`epochs`).
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeVar

Result = TypeVar("Result")


@dataclass
class Job:
    """What a trainer is given.

    Attributes:
        images: folder of the images.
        train, test: COCO files.
        tests: COCO files of the parts of `test`, by protocol.
        folder: for everything that the trainer writes.
        seed: of weights and order.
        seconds: processor time to train for, one thread.
        image_size: longest edge, pixels.
        settings: of the row.
        iterations: to train, whatever time they take; 0 for as many as fit into `seconds`.
    """

    images: str
    train: str
    test: str
    tests: dict[str, str]
    folder: str
    seed: int
    seconds: float
    image_size: int
    settings: dict = field(default_factory=dict)
    iterations: int = 0

    @classmethod
    def load(cls, path: str) -> "Job":
        """From a file that `save` wrote."""
        return cls(**json.loads(Path(path).read_text()))

    def save(self) -> Path:
        """Write it into its folder."""
        path = Path(self.folder) / "job.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1))
        return path

    def categories(self) -> list[dict]:
        """Of the sets, by id; a class's place in the list is its index."""
        return sorted(json.loads(Path(self.train).read_text())["categories"], key=lambda category: category["id"])

    def of_another_seed(self, fact: str) -> float | None:
        """What a finished job of the same row says, so that all of its seeds train equally long, or None."""
        for path in sorted(Path(self.folder).parent.glob("*/training.json")):
            return json.loads(path.read_text()).get(fact)
        return None

    def detect(self, detector: Callable[[Path], tuple[Sequence, Sequence, Sequence]]) -> list[dict]:
        """COCO results of the test set.

        Args:
            detector: gives an image's boxes (xyxy pixels), scores and classes (places in `categories`).
        """
        ids = [category["id"] for category in self.categories()]
        found = []
        for image in json.loads(Path(self.test).read_text())["images"]:
            rows = zip(*detector(Path(self.images) / image["file_name"]), strict=True)
            for (left, top, right, bottom), score, index in rows:
                box = [left, top, right - left, bottom - top]
                found.append({"image_id": image["id"], "category_id": ids[int(index)], "score": score, "bbox": box})
        return found

    def finish(self, detections: list[dict], **facts: float) -> None:
        """Write what a trainer leaves; `training.json` comes last and says that the job is done."""
        folder = Path(self.folder)
        (folder / "detections.json").write_text(json.dumps(detections))
        (folder / "training.json").write_text(json.dumps(facts))


def timed(call: Callable[[], Result]) -> tuple[Result, float]:
    """What a call returns, and its processor time in seconds."""
    start = time.process_time()
    result = call()
    return result, time.process_time() - start


def iterations_within(seconds: float, of_short: float, short: int, of_longer: float, longer: int) -> tuple[int, float]:
    """Iterations that fit into `seconds`, and seconds of an iteration, by two trial runs that share their start-up.

    Args:
        seconds: the budget.
        of_short, of_longer: processor time of the trial runs, seconds.
        short, longer: their iterations.
    """
    each = max((of_longer - of_short) / (longer - short), 1e-6)
    return max(1, int(seconds / each)), each
