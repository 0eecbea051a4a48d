"""Images of detections beside the ground truth, at the end of training."""

import logging

from detectron2.engine.train_loop import HookBase
from detectron2.utils import comm

from xray_lazy.run_folder import RunFolder
from xray_lazy.utils.wording import counted
from xray_lazy.visualization.prediction_images import save_prediction_images

logger = logging.getLogger(__name__)


class PredictionPictures(HookBase):
    """Write overlays of some evaluation images to `visualizations/` when training is done.

    Args:
        count: images, evenly spread over the evaluation set.
        score_threshold: detections below it are not drawn.
    """

    def __init__(self, count: int = 8, score_threshold: float = 0.5):
        self.count, self.score_threshold = count, score_threshold

    def after_train(self) -> None:
        trainer = self.trainer
        if not comm.is_main_process() or not trainer.is_finished:
            return
        folder = RunFolder(trainer.checkpointer.save_dir).visualizations
        *_, model = trainer.evaluated_models.values()  # averaged weights, where there are any
        predictions = trainer.evaluate.predict(model, self.count)
        paths = save_prediction_images(
            predictions,
            trainer.evaluate.datasets[0].class_names,
            folder,
            self.score_threshold,
            trainer.evaluate.reader,
        )
        count = max(len(paths) - 1, 0)  # the last one is the sheet of all
        logger.info("wrote %s of detections to %s", counted(count, "image"), folder)
