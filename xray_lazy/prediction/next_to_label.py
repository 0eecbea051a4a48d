"""Which scans are most worth labelling next: those that a model is unsure of, with rare classes, unlike each other."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from xray_lazy.data.image_detections import Drawn, ImageDetections
from xray_lazy.errors import UserError
from xray_lazy.prediction.input_files import find_inputs, without_further_files
from xray_lazy.prediction.predictor import Predictor
from xray_lazy.utils.atomic_file import write_text
from xray_lazy.utils.results_place import check_result_file
from xray_lazy.utils.wording import counted
from xray_lazy.visualization.montage import contact_sheet, with_title
from xray_lazy.visualization.overlay import draw_instances
from xray_lazy.visualization.prediction_images import write_image

LEAST_SCORE = 0.05  # what is below says nothing
UNSURE_ITEMS = 3  # of an image; the mean of the most unsure ones counts, so that full bags are not all that is chosen
MOST_RARITY = 4.0  # times a common class
THUMBNAIL = 16  # pixels a side
SHEET_COUNT, SHEET_COLUMNS, SHEET_CELL = 48, 6, 320
LIST, SHEET = "next.csv", "next.jpg"
HEADER = ("rank", "image", "score", "uncertainty", "rarity", "distance", "class")


@dataclass(frozen=True)
class Candidate:
    """An unlabelled image.

    Attributes:
        uncertainty: in 0..1, of its most unsure items, each times the rarity of its class.
        rarity: of the class that counts most, 1 for the commonest one.
        class_name: that class; empty where nothing was found.
        unsure: the items that count.
        looks: (D,) float32 of length 1: what is in it and what it looks like.
    """

    path: Path
    name: str
    uncertainty: float
    rarity: float
    class_name: str
    unsure: list[Drawn]
    looks: np.ndarray


@dataclass(frozen=True)
class Chosen:
    """A candidate with its place in the order; `distance` (0..1) is that to the ones before it."""

    candidate: Candidate
    distance: float

    @property
    def score(self) -> float:
        return self.candidate.uncertainty * self.distance


def choose_next(model: str, inputs: Sequence[str], count: int, output: str | Path, device: str = "auto") -> None:
    """Write `next.csv`, the images to label in their order, and `next.jpg`, a sheet of the first ones.

    Raises:
        UserError: the model or the images can't be had, or other files are in the way.
    """
    output = Path(output)
    is_ours = lambda path: path.read_bytes().startswith(",".join(HEADER).encode())  # noqa: E731
    check_result_file(output / LIST, is_ours, "a list of images to label")
    check_result_file(output / SHEET, lambda _: (output / LIST).is_file(), "a sheet of images to label")
    given = find_inputs(inputs, output=output)
    files = given.images
    for problem in given.unreadable:
        print(f"skipped: {problem.message}")
    predictor = Predictor.of(model, device=device, score_threshold=LEAST_SCORE)
    files = without_further_files(files, predictor.detector.reader)
    found, looks, read = [], [], []
    for file, prediction in zip(files, predictor.stream(file.path for file in files), strict=True):
        if prediction.problem is not None:
            print(f"skipped: {prediction.problem.message}")
            continue
        read.append(file)
        items = ImageDetections.of(prediction.instances)
        found.append(ImageDetections(items.boxes, items.scores, items.classes, None))  # masks of many images are much
        looks.append(_thumbnail(prediction.image))
    if not read:
        raise UserError(f"none of the {len(files)} images could be read", "see the lines above")
    names = list(predictor.class_names) or [str(one) for one in range(1 + max(d.classes.max(initial=0) for d in found))]
    rarity = class_rarity(found, len(names))
    candidates = [
        _candidate(file.path, str(file.name), one, look, rarity, names)
        for file, one, look in zip(read, found, looks, strict=True)
    ]
    chosen = in_order(candidates, count)
    write_text(output / LIST, _table(chosen))
    first = [_cell(predictor, one, place) for place, one in enumerate(chosen[:SHEET_COUNT], start=1)]
    write_image(output / SHEET, contact_sheet(first, columns=SHEET_COLUMNS, cell_width=SHEET_CELL))
    print(f"{counted(len(chosen), 'image')} of {len(read):,} to label next: {output / LIST}, {output / SHEET}")


def class_rarity(found: Sequence[ImageDetections], classes: int) -> np.ndarray:
    """How rare each class is among what is found, (classes,): the root of how many times fewer items it is expected to
    have than the commonest one, from 1 to `MOST_RARITY`; as repeat factors (Gupta et al., LVIS, CVPR 2019)."""
    expected = np.zeros(classes)
    for one in found:
        np.add.at(expected, one.classes, one.scores)
    return np.sqrt(expected.max(initial=0) / np.maximum(expected, 1e-9)).clip(1, MOST_RARITY)


def in_order(candidates: Sequence[Candidate], count: int) -> list[Chosen]:
    """The `count` images of the highest uncertainty times distance to those before them, which come one by one.

    The margin is that of Brust et al., "Active Learning for Deep Object Detection" (VISAPP 2019), the greedy choice of
    far images that of Sener and Savarese, "Core-Set" (ICLR 2018).
    """
    looks = np.stack([one.looks for one in candidates])
    uncertainty = np.array([one.uncertainty for one in candidates])
    distance, left = np.ones(len(candidates)), np.ones(len(candidates), bool)
    chosen = []
    for _ in range(min(count, len(candidates))):
        # of equal ones, such as images without any item, the farthest
        best = int(np.where(left, uncertainty * distance + 1e-6 * distance, -1).argmax())
        chosen.append(Chosen(candidates[best], float(distance[best])))
        left[best] = False
        distance = np.minimum(distance, (1 - looks @ looks[best]).clip(0, 1))
    return chosen


def _candidate(
    path: Path, name: str, found: ImageDetections, look: np.ndarray, rarity: np.ndarray, names: Sequence[str]
) -> Candidate:
    # nothing is as unsure as a score of one half
    unsure = (1 - np.abs(2 * found.scores - 1)) * rarity[found.classes] / MOST_RARITY
    most = np.argsort(-unsure)[:UNSURE_ITEMS]
    value = float(unsure[most].sum() / UNSURE_ITEMS)
    held = np.zeros(len(names))
    np.maximum.at(held, found.classes, found.scores)
    looks = np.concatenate([look, held / max(1.0, np.linalg.norm(held))])
    first = int(found.classes[most[0]]) if len(most) else None
    return Candidate(
        path,
        name,
        value,
        1.0 if first is None else float(rarity[first]),
        "" if first is None else names[first],
        [found.drawn()[place] for place in most],
        (looks / max(np.linalg.norm(looks), 1e-9)).astype(np.float32),
    )


def _thumbnail(image: np.ndarray) -> np.ndarray:
    """What an image (H, W, 3) looks like, (D,) of length 1 and mean 0."""
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    small = cv2.resize(grey, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA).astype(np.float64).ravel()
    small -= small.mean()
    return small / max(np.linalg.norm(small), 1e-9)


def _cell(predictor: Predictor, one: Chosen, place: int) -> np.ndarray:
    """A cell of the sheet: the image with what was found, under its place and score."""
    picture, _ = predictor.detector.load(one.candidate.path)
    drawn = draw_instances(picture, one.candidate.unsure, predictor.class_names)
    return with_title(drawn, f"{place}: {one.score:.3f}", max(9, drawn.shape[0] // 20))


def _table(chosen: Sequence[Chosen]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(HEADER)
    for rank, one in enumerate(chosen, start=1):
        own = one.candidate
        numbers = (round(value, 4) for value in (one.score, own.uncertainty, own.rarity, one.distance))
        writer.writerow([rank, own.name, *numbers, own.class_name])
    return stream.getvalue()
