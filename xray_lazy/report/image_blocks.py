"""The worst and best images, and where runs differ most: ground truth beside detections."""

import base64
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from xray_lazy.data.image_detections import Drawn
from xray_lazy.data.image_files.image_file import UnreadableImage
from xray_lazy.engine.media_maker import ImageMaker
from xray_lazy.errors import UserError
from xray_lazy.evaluation.matching import ImageMistakes
from xray_lazy.report.blocks import Block, ImageRow, Images, Note, Shot
from xray_lazy.report.review import Review, Reviews
from xray_lazy.report.run_files import RunFiles
from xray_lazy.tracking.media import ComparedImage
from xray_lazy.visualization.overlay import draw_instances

LONG_EDGE, THUMBNAIL_EDGE = 720, 320  # pixels
JPEG_QUALITY = 80
WORST, BEST = 8, 4
# of a comparison, about 70 kB each: what makes a page too large to send
MOST_SHOTS = 40


def image_blocks(runs: Sequence[RunFiles], reviews: Reviews) -> list[Block]:
    found: list[tuple[RunFiles, Review]] = []
    blocks: list[Block] = []
    for run in runs:
        try:
            review = reviews[run]
            _ = review.mistakes
            found.append((run, review))
        except UserError as error:
            which = f" of {run.name}" if len(runs) > 1 else ""
            blocks.append(Note(f"Images{which} can't be shown: {error.message}.", error.fix))
    if not found:
        return blocks
    same = [(run, review) for run, review in found if review.dataset.name == found[0][1].dataset.name]
    if len(same) < len(found):
        blocks.append(Note("Only runs on the same test set as the first are shown together."))
    return [*blocks, *(_of_one(same[0][1]) if len(same) == 1 else _of_several(same))]


def typical_image(run: RunFiles, reviews: Reviews) -> list[Block]:
    """The image with the median of F1, of those with an item."""
    try:
        review = reviews[run]
    except UserError:
        return []
    with_items = [image for image in review.mistakes if image.found + image.missed]
    middle = with_items[len(with_items) // 2 :][:1]
    return _rows("A typical image", "As many are better as are worse.", middle, [("prediction", review)])


def thumbnails(
    review: Review, image_ids: Sequence[int | str], score_threshold: float, what: Literal["annotated", "detected"]
) -> dict[int | str, Shot]:
    """Small images with their items as annotated, or as detected with at least a score; those that can be read."""
    make, shots = ImageMaker(review, image_ids, score_threshold, THUMBNAIL_EDGE, review.inputs.reader), {}
    for image_id in image_ids:
        try:
            image = make(image_id)
        except UnreadableImage:
            continue
        shots[image_id] = _shot(image, image.truth if what == "annotated" else image.detections, what, THUMBNAIL_EDGE)
    return shots


def _of_one(review: Review) -> list[Block]:
    ordered = review.mistakes
    worst = [image for image in ordered if image.f1 < 1][:WORST]
    # of those without a mistake the fullest
    best = sorted((p for p in ordered if p.found), key=lambda p: (-p.f1, -p.found))[:BEST]
    best = [image for image in best if image not in worst]
    about = f"Detections with a score of at least {review.score_threshold:.2f}, counted at IoU 0.5."
    return [
        *_rows("Worst images", about, worst, [("prediction", review)]),
        *_rows("Best images", "The fullest of those with the fewest mistakes.", best, [("prediction", review)]),
    ]


def _of_several(found: Sequence[tuple[RunFiles, Review]]) -> list[Block]:
    scores = [{image.image_id: image.f1 for image in review.mistakes} for _, review in found]
    first = found[0][1].mistakes

    def spread(image: ImageMistakes) -> float:
        values = [own[image.image_id] for own in scores if image.image_id in own]
        return max(values) - min(values)

    rows = max(3, MOST_SHOTS // (len(found) + 1))
    by_spread = sorted(first, key=lambda image: (-spread(image), -image.found - image.missed))
    apart = [image for image in by_spread if spread(image) > 0][: rows * 2 // 3]
    together = sorted(first, key=lambda image: sum(own.get(image.image_id, 1.0) for own in scores))
    chosen = {image.image_id for image in apart}
    hard = [image for image in together if image.image_id not in chosen and image.f1 < 1][: rows // 3]
    views = [(run.name, review) for run, review in found]
    about = "Each run's detections from its own score of the highest F1 on."
    return [
        *_rows("Where the runs differ most", about, apart, views),
        *_rows("Hard for all of them", "", hard, views),
    ]


def _rows(title: str, text: str, chosen: Sequence[ImageMistakes], views: Sequence[tuple[str, Review]]) -> list[Block]:
    if not chosen:
        return []
    ids = [image.image_id for image in chosen]
    makers = [ImageMaker(one, ids, one.score_threshold, LONG_EDGE, one.inputs.reader) for _, one in views]
    counts = [{image.image_id: image for image in review.mistakes} for _, review in views]
    rows, unreadable = [], []
    for image in chosen:
        try:
            rows.append(_row(image, [name for name, _ in views], makers, counts))
        except UnreadableImage as error:
            unreadable.append(str(error.message))
    blocks: list[Block] = [Images(title, rows, text)] if rows else []
    if unreadable:
        blocks.append(Note(f"{title}: {len(unreadable)} can't be shown: {unreadable[0]}.", "put the images back", True))
    return blocks


def _row(
    image: ImageMistakes,
    names: Sequence[str],
    makers: Sequence[Callable[[int | str], ComparedImage]],
    counts: Sequence[dict[int | str, ImageMistakes]],
) -> ImageRow:
    made = [make(image.image_id) for make in makers]
    shots = [_shot(made[0], made[0].truth, "ground truth")]
    for name, own, mistakes in zip(names, made, counts, strict=True):
        shots.append(_shot(own, own.detections, f"{name}: {_counted(mistakes.get(image.image_id))}"))
    return ImageRow(Path(made[0].file_name).name, "", shots)


def _counted(image: ImageMistakes | None) -> str:
    return f"{image.found} found, {image.missed} missed, {image.false} false" if image else "not evaluated"


def _shot(image: ComparedImage, items: Sequence[Drawn], caption: str, long_edge: int = LONG_EDGE) -> Shot:
    scan = np.ascontiguousarray(image.image[..., ::-1])
    enlargement = max(1, round(long_edge / max(scan.shape[:2])))
    drawn = draw_instances(scan, items, image.class_names, enlargement)
    return _encoded(drawn, caption, long_edge)


def _encoded(image: np.ndarray, caption: str, long_edge: int) -> Shot:
    """A BGR image as a JPEG in a data URI."""
    factor = long_edge / max(image.shape[:2])
    if factor < 1:
        size = tuple(max(1, round(edge * factor)) for edge in image.shape[1::-1])
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()
    height, width = image.shape[:2]
    return Shot(f"data:image/jpeg;base64,{base64.b64encode(data).decode()}", caption, width, height)
