"""The worst and best pictures, and where runs differ most: ground truth beside detections."""

import base64
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from xray_lazy.data.image_detections import Drawn
from xray_lazy.data.picture_file import UnreadablePicture
from xray_lazy.engine.evaluation_media import PictureMaker
from xray_lazy.errors import UserError
from xray_lazy.evaluation.matching import ImageMistakes
from xray_lazy.report.blocks import Block, Note, PictureRow, Pictures, Shot
from xray_lazy.report.review import Review, Reviews
from xray_lazy.report.run_files import RunFiles
from xray_lazy.tracking.media import ComparedImage
from xray_lazy.visualization.overlay import draw_instances

LONG_EDGE = 720  # pixels
JPEG_QUALITY = 80
WORST, BEST = 8, 4
# of a comparison, about 70 kB each: what makes a page too large to send
MOST_SHOTS = 40


def picture_blocks(runs: Sequence[RunFiles], reviews: Reviews) -> list[Block]:
    found: list[tuple[RunFiles, Review]] = []
    blocks: list[Block] = []
    for run in runs:
        try:
            review = reviews[run]
            _ = review.mistakes
            found.append((run, review))
        except UserError as error:
            which = f" of {run.name}" if len(runs) > 1 else ""
            blocks.append(Note(f"Pictures{which} can't be shown: {error.message}.", error.fix))
    if not found:
        return blocks
    same = [(run, review) for run, review in found if review.dataset.name == found[0][1].dataset.name]
    if len(same) < len(found):
        blocks.append(Note("Only runs on the same test set as the first are shown together."))
    return [*blocks, *(_of_one(same[0][1]) if len(same) == 1 else _of_several(same))]


def typical_picture(run: RunFiles, reviews: Reviews) -> list[Block]:
    """The picture with the median of F1, of those with an item."""
    try:
        review = reviews[run]
    except UserError:
        return []
    with_items = [picture for picture in review.mistakes if picture.found + picture.missed]
    middle = with_items[len(with_items) // 2 :][:1]
    return _rows("A typical picture", "As many are better as are worse.", middle, [("prediction", review)])


def _of_one(review: Review) -> list[Block]:
    ordered = review.mistakes
    worst = [picture for picture in ordered if picture.f1 < 1][:WORST]
    # of those without a mistake the fullest
    best = sorted((p for p in ordered if p.found), key=lambda p: (-p.f1, -p.found))[:BEST]
    best = [picture for picture in best if picture not in worst]
    about = f"Detections with a score of at least {review.score_threshold:.2f}, counted at IoU 0.5."
    return [
        *_rows("Worst pictures", about, worst, [("prediction", review)]),
        *_rows("Best pictures", "The fullest of those with the fewest mistakes.", best, [("prediction", review)]),
    ]


def _of_several(found: Sequence[tuple[RunFiles, Review]]) -> list[Block]:
    scores = [{picture.image_id: picture.f1 for picture in review.mistakes} for _, review in found]
    first = found[0][1].mistakes

    def spread(picture: ImageMistakes) -> float:
        values = [own[picture.image_id] for own in scores if picture.image_id in own]
        return max(values) - min(values)

    rows = max(3, MOST_SHOTS // (len(found) + 1))
    by_spread = sorted(first, key=lambda picture: (-spread(picture), -picture.found - picture.missed))
    apart = [picture for picture in by_spread if spread(picture) > 0][: rows * 2 // 3]
    together = sorted(first, key=lambda picture: sum(own.get(picture.image_id, 1.0) for own in scores))
    chosen = {picture.image_id for picture in apart}
    hard = [picture for picture in together if picture.image_id not in chosen and picture.f1 < 1][: rows // 3]
    views = [(run.name, review) for run, review in found]
    about = "Each run's detections from its own score of the highest F1 on."
    return [
        *_rows("Where the runs differ most", about, apart, views),
        *_rows("Hard for all of them", "", hard, views),
    ]


def _rows(title: str, text: str, chosen: Sequence[ImageMistakes], views: Sequence[tuple[str, Review]]) -> list[Block]:
    if not chosen:
        return []
    ids = [picture.image_id for picture in chosen]
    makers = [PictureMaker(review, ids, review.score_threshold, LONG_EDGE) for _, review in views]
    counts = [{picture.image_id: picture for picture in review.mistakes} for _, review in views]
    rows, unreadable = [], []
    for picture in chosen:
        try:
            rows.append(_row(picture, [name for name, _ in views], makers, counts))
        except UnreadablePicture as error:
            unreadable.append(str(error.message))
    blocks: list[Block] = [Pictures(title, rows, text)] if rows else []
    if unreadable:
        blocks.append(
            Note(f"{title}: {len(unreadable)} can't be shown: {unreadable[0]}.", "put the pictures back", True)
        )
    return blocks


def _row(
    picture: ImageMistakes,
    names: Sequence[str],
    makers: Sequence[Callable[[int | str], ComparedImage]],
    counts: Sequence[dict[int | str, ImageMistakes]],
) -> PictureRow:
    made = [make(picture.image_id) for make in makers]
    shots = [_shot(made[0], made[0].truth, "ground truth")]
    for name, own, mistakes in zip(names, made, counts, strict=True):
        shots.append(_shot(own, own.detections, f"{name}: {_counted(mistakes.get(picture.image_id))}"))
    return PictureRow(Path(made[0].file_name).name, "", shots)


def _counted(picture: ImageMistakes | None) -> str:
    return f"{picture.found} found, {picture.missed} missed, {picture.false} false" if picture else "not evaluated"


def _shot(picture: ComparedImage, items: Sequence[Drawn], caption: str) -> Shot:
    scan = np.ascontiguousarray(picture.picture[..., ::-1])
    enlargement = max(1, round(LONG_EDGE / max(scan.shape[:2])))
    drawn = draw_instances(scan, items, picture.class_names, enlargement)
    return _encoded(drawn, caption)


def _encoded(picture: np.ndarray, caption: str) -> Shot:
    """A BGR picture as a JPEG in a data URI."""
    factor = LONG_EDGE / max(picture.shape[:2])
    if factor < 1:
        size = tuple(max(1, round(edge * factor)) for edge in picture.shape[1::-1])
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()
    height, width = picture.shape[:2]
    return Shot(f"data:image/jpeg;base64,{base64.b64encode(data).decode()}", caption, width, height)
