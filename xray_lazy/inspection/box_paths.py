"""Boxes that move: proposals from stage to stage."""

import itertools
from collections.abc import Sequence

import cv2
import numpy as np

from xray_lazy.visualization.overlay import class_colour, grey_background, resized

START_COLOUR = (90, 90, 90)
EDGE = (0, 0, 0)


def draw_boxes(
    image: np.ndarray,
    boxes: np.ndarray,
    colours: Sequence[tuple[int, int, int]],
    enlargement: float = 1,
    thickness: int = 2,
) -> np.ndarray:
    """Boxes without labels on the grey image, the first ones on top.

    Args:
        image: (H, W, 3) BGR.
        boxes: (N, 4), xyxy pixels of the image.
        colours: BGR of each.
    """
    canvas = resized(grey_background(image), enlargement)
    for box, colour in reversed(list(zip(_points(boxes, canvas, enlargement), colours, strict=True))):
        cv2.rectangle(canvas, box[0], box[1], EDGE, thickness + 1, cv2.LINE_AA)
        cv2.rectangle(canvas, box[0], box[1], colour, thickness, cv2.LINE_AA)
    return canvas


def draw_paths(image: np.ndarray, boxes: np.ndarray, class_ids: Sequence[int], enlargement: float = 1) -> np.ndarray:
    """How boxes came where they are: grey where they started, ever stronger towards the last, their centres joined.

    Args:
        image: (H, W, 3) BGR.
        boxes: (S, N, 4), after each step, xyxy pixels of the image.
        class_ids: of each of the N boxes in the end.
    """
    canvas = resized(grey_background(image), enlargement)
    steps = [_points(step, canvas, enlargement) for step in boxes]
    last = len(steps) - 1
    for step, of_step in enumerate(steps):
        faded = canvas.copy()
        for box, class_id in zip(of_step, class_ids, strict=True):
            colour = class_colour(class_id) if step else START_COLOUR
            if step == last:
                cv2.rectangle(faded, box[0], box[1], EDGE, 4, cv2.LINE_AA)
            cv2.rectangle(faded, box[0], box[1], colour, 3 if step == last else 1 + (step > 0), cv2.LINE_AA)
        strength = 1.0 if step == last else 0.35 + 0.5 * step / max(1, last)
        canvas = cv2.addWeighted(faded, strength, canvas, 1 - strength, 0)
    for number, class_id in enumerate(class_ids):
        # a box that starts as the whole image reaches beyond what is drawn: its centre does not
        centres = [tuple(int((a + b) / 2) for a, b in zip(*of_step[number], strict=True)) for of_step in steps]
        for start, end in itertools.pairwise(centres):
            cv2.line(canvas, start, end, EDGE, 4, cv2.LINE_AA)
            cv2.line(canvas, start, end, class_colour(class_id), 2, cv2.LINE_AA)
        for centre in centres[:-1]:
            cv2.circle(canvas, centre, 4, class_colour(class_id), cv2.FILLED, cv2.LINE_AA)
        cv2.circle(canvas, centres[-1], 7, EDGE, cv2.FILLED, cv2.LINE_AA)
        cv2.circle(canvas, centres[-1], 5, class_colour(class_id), cv2.FILLED, cv2.LINE_AA)
    return canvas


def score_colours(scores: np.ndarray) -> list[tuple[int, int, int]]:
    """BGR by score, from dark violet for the lowest of them to yellow for the highest."""
    if not len(scores):
        return []
    shares = ((scores - scores.min()) / max(float(np.ptp(scores)), 1e-12) * 255).clip(0, 255).astype(np.uint8)
    mapped = cv2.applyColorMap(shares.reshape(-1, 1), cv2.COLORMAP_PLASMA).reshape(-1, 3)
    return [tuple(int(value) for value in colour) for colour in mapped]


def _points(boxes: np.ndarray, canvas: np.ndarray, factor: float) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    height, width = canvas.shape[:2]
    boxes = np.nan_to_num(boxes * factor).clip(0, [width - 1, height - 1] * 2).round().astype(int)
    return [((int(x0), int(y0)), (int(x1), int(y1))) for x0, y0, x1, y1 in boxes]
