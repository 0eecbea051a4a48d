"""Show what is behind an evaluation's numbers: images, confusion matrix, precision-recall curves, worst images."""

import logging
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from detectron2.engine.train_loop import HookBase
from detectron2.evaluation import DatasetEvaluator

from xray_lazy.config.suggest import nearest
from xray_lazy.data.datasets import DetectionDataset
from xray_lazy.data.image_files.image_file import UnreadableImage
from xray_lazy.engine.evaluated_sets import EvaluatedSet
from xray_lazy.engine.media_maker import (
    ImageMaker,
    ReviewableEvaluator,
    confusion_matrix,
    precision_recall,
    screening_curves,
    worst_pictures,
)
from xray_lazy.errors import UserError
from xray_lazy.evaluation.coco_evaluator import CocoEvaluator
from xray_lazy.evaluation.coco_metrics import has_hotcoco
from xray_lazy.evaluation.matching import find_mistakes
from xray_lazy.tracking.media import Images, Media
from xray_lazy.tracking.writer import Writer
from xray_lazy.visualization.prediction_images import evenly_spaced

logger = logging.getLogger(__name__)


class EvaluationMedia(HookBase):
    """Give the writers that take media a look at an evaluation, from the very detections that it has counted.

    They get `media/images`, always of the same scans; `media/confusion_matrix`; `media/precision_recall` by class, at
    IoU 0.5; `media/worst_pictures`; `media/screening_roc` and `media/screening_froc`. TensorBoard and W&B log them as
    `val/images` and so on. Masks count where they are evaluated, else boxes. Where averaged weights are evaluated, they
    are looked at, and the names end with their suffix. Of sets that are evaluated apart each has its own:
    `media/smith/images`; the curves of the screening are of all. Without a writer for it, nothing is done.

    Args:
        period: in iterations; the first evaluation after each period is shown, and the last one. 0 shows that only.
        count: images, evenly spread over the set; 0 for none.
        worst: images with the most mistakes; 0 for none.
        chosen: images that are shown before those, by file name or image id.
        score_threshold: of detections that are shown and whose mistakes are counted.
        long_edge: pixels; larger images are made smaller.
    """

    def __init__(
        self,
        period: int,
        count: int = 16,
        worst: int = 8,
        chosen: Sequence[str | int] = (),
        score_threshold: float = 0.5,
        long_edge: int = 1024,
    ):
        self.period, self.count, self.worst, self.chosen = period, count, worst, list(chosen)
        self.score_threshold, self.long_edge = score_threshold, long_edge
        self.shown_at = 0  # iterations that were done then
        self._showing = 0  # likewise, of all sets that are evaluated then

    def check(self) -> None:
        """Called before anything is written: a wrong name is told now, not hours later."""
        if self.chosen:
            chosen_records(self.trainer.evaluate.datasets, self.chosen)

    def before_train(self) -> None:
        self.join_evaluation()

    def join_evaluation(self) -> None:
        """Look at evaluations from now on; called by itself where a checkpoint is evaluated outside of training."""
        self.trainer.evaluate.observers.append(self._show)
        self.trainer.evaluate.observers_of_all.append(self._show_all)

    def after_train(self) -> None:
        self.trainer.evaluate.observers.remove(self._show)
        self.trainer.evaluate.observers_of_all.remove(self._show_all)

    def _show(self, evaluators: Sequence[DatasetEvaluator], suffix: str, name: str = "") -> None:
        trainer = self.trainer
        writers = self._writers(suffix)
        evaluator = next((e for e in evaluators if isinstance(e, ReviewableEvaluator)), None)
        if not writers or evaluator is None or not self._is_due():
            return
        self.shown_at = self._showing = trainer.iterations_done
        start = time.perf_counter()
        of_set = f"{name}/" if name else ""
        media = {f"media/{of_set}{kind}{suffix}": value for kind, value in self._media(evaluator).items()}
        for writer in writers:
            writer.write_media(media, trainer.iter)
        logger.info("images and charts of the evaluation took %.1f s", time.perf_counter() - start)

    def _show_all(self, sets: Sequence[EvaluatedSet], suffix: str) -> None:
        evaluators = [e for one in sets for e in one.evaluators if isinstance(e, CocoEvaluator)]
        writers = self._writers(suffix)
        if writers and self._is_due():
            media = {f"media/{name}{suffix}": curve for name, curve in screening_curves(evaluators).items()}
            for writer in writers if media else ():
                writer.write_media(media, self.trainer.iter)

    def _writers(self, suffix: str) -> list[Writer]:
        """Those that show media; none for weights beside which others are evaluated that are shown."""
        *_, last_suffix = self.trainer.evaluated_models
        found = [one for one in self.trainer.writers.values() if isinstance(one, Writer) and one.takes_media]
        return found if suffix == last_suffix else []

    def _is_due(self) -> bool:
        done = self.trainer.iterations_done
        if self.trainer.is_finished or done == self._showing:
            return True
        return bool(self.period > 0 and done // self.period > self.shown_at // self.period)

    def _media(self, evaluator: ReviewableEvaluator) -> dict[str, Media]:
        iou_type = "segm" if "segm" in evaluator.metrics else "bbox"
        media: dict[str, Media] = {"precision_recall": precision_recall(evaluator.metrics[iou_type])}
        records = [record for name in self.chosen for record in _called(evaluator.dataset, name)]
        records += evenly_spaced(evaluator.dataset, self.count)
        ids = list(dict.fromkeys(record["image_id"] for record in records))
        worst = []
        if has_hotcoco():
            mistakes = find_mistakes(
                evaluator.ground_truth, evaluator.predictions, iou_type, self.score_threshold, evaluator.max_detections
            )
            media["confusion_matrix"] = confusion_matrix(mistakes, evaluator.dataset.class_names)
            worst = [image for image in mistakes.images[: self.worst] if image.f1 < 1]
        shown = [*ids, *(w.image_id for w in worst)]
        make = ImageMaker(evaluator, shown, self.score_threshold, self.long_edge, self.trainer.evaluate.reader)
        try:
            media["pictures"] = Images([make(image_id) for image_id in ids])
            media["worst_pictures"] = worst_pictures(worst, make)
        except UnreadableImage as error:  # it was there when it was evaluated
            logger.warning("no images of this evaluation: %s", error)
        return media

    def state_dict(self) -> dict[str, int]:
        return {"shown_at": self.shown_at}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self.shown_at = state_dict["shown_at"]


def chosen_records(datasets: Sequence[DetectionDataset], chosen: Iterable[str | int]) -> list[dict]:
    """The records of images that are named by file name or image id.

    Raises:
        UserError: the data sets together have no such image, or more than one.
    """
    found = []
    for name in chosen:
        matching = [record for dataset in datasets for record in _called(dataset, name)]
        if len(matching) != 1:
            names = [Path(record["file_name"]).name for dataset in datasets for record in dataset]
            near = nearest(str(name), names) or names[:1]
            sets = " and ".join(dataset.name for dataset in datasets)
            raise UserError(
                f"hooks.evaluation_media.chosen: of {name!r}, {sets} has {len(matching) or 'none'}",
                f"name an image by its file, such as {near[0]}, or by its id",
            )
        found += matching
    return found


def _called(dataset: DetectionDataset, name: str | int) -> list[dict]:
    return [record for record in dataset if name in (record["image_id"], Path(record["file_name"]).name)]
