"""Media as TensorBoard shows them: drawn images, and precision-recall curves with a slider over iterations."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from xray_lazy.tracking.media import ConfusionMatrix, Images, Media, PrecisionRecall, RateCurve, WorstImages

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

JPEG_QUALITY = 85
THRESHOLDS = 101  # TensorBoard spreads them evenly over the scores 0 to 1


def add_media(events: "SummaryWriter", media: Mapping[str, Media], iteration: int) -> None:
    """Add all media to an event file; each image has a tag of its own, so that one can slide over iterations."""
    for name, item in media.items():
        match item:
            case Images(images):
                for number, shown in enumerate(images, 1):  # joined sets may have two files of a name
                    add_image(events, f"{name}/{number:02d}_{Path(shown.file_name).stem}", shown.drawn(), iteration)
            case WorstImages(images):
                for rank, shown in enumerate(images, 1):
                    add_image(events, f"{name}/{rank}", shown.drawn(), iteration)
            case ConfusionMatrix() | RateCurve():
                add_image(events, name, item.drawn(), iteration)
            case PrecisionRecall():
                for class_name in item.precisions:
                    events.add_pr_curve_raw(
                        f"{name}/{class_name}", *_counts(item, class_name), iteration, num_thresholds=THRESHOLDS
                    )


def add_image(events: "SummaryWriter", tag: str, image: np.ndarray, iteration: int) -> None:
    """Add an RGB image as JPEG, a fifth of the PNG that `SummaryWriter.add_image` would write of an X-ray image."""
    from tensorboard.compat.proto.summary_pb2 import Summary

    data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()
    height, width = image.shape[:2]
    encoded = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=data)
    events.file_writer.add_summary(Summary(value=[Summary.Value(tag=tag, image=encoded)]), iteration)


def _counts(curves: PrecisionRecall, class_name: str) -> list[np.ndarray]:
    """True positives, false positives, true negatives, false negatives, precision and recall at each threshold.

    There are no true negatives in detection. Counts follow from the points of the curve, and so are near whole numbers.
    """
    precisions, scores = curves.precisions[class_name], curves.scores[class_name]
    thresholds = np.linspace(0, 1, THRESHOLDS)
    # the highest recall that detections from a score on reach; scores fall as recalls rise
    reached = ((scores[None, :] >= thresholds[:, None]) & (precisions[None, :] > 0)).sum(axis=1) - 1
    found = reached >= 0
    recall = np.where(found, curves.recalls[reached], 0.0)
    precision = np.where(found, precisions[reached], 1.0)  # of no detections none is false
    true = recall * curves.instances[class_name]
    false = np.where(found, true * (1 - precision) / precision.clip(1e-9), 0.0)
    return [true, false, np.zeros_like(true), curves.instances[class_name] - true, precision, recall]
