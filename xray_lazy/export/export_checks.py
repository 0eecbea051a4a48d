"""Whether an exported model finds what the model itself finds: image by image, and by average precision."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import cycle, islice
from typing import Any

import numpy as np
import torch
from tabulate import tabulate
from torch import nn

from xray_lazy.engine.evaluated_sets import EvaluatedSet
from xray_lazy.engine.trained_model import TrainedModel
from xray_lazy.errors import RunFailure, UserError
from xray_lazy.export.agreement import BOX_LIMIT, LEAST_SCORE, MASK_LIMIT, SCORE_LIMIT, Difference, compare, worst
from xray_lazy.export.average_precision import ExportedModule, average_precision, largest_loss, sets_at_hand
from xray_lazy.export.facts import ModelFacts
from xray_lazy.export.runtime import OUTPUTS, ExportedModel
from xray_lazy.utils.wording import counted

AP_LIMITS = {"float32": 0.1, "float16": 0.1, "int8": 1.0}  # what may be lost, in percent
COARSE_SCORE_LIMIT = 0.2  # within which detections of lower precision are taken for the same
BATCH = 8


def check_agreement(
    model: nn.Module,
    exported: ExportedModel,
    images: Sequence[tuple[str, np.ndarray]],
    report: Callable[[str], None],
) -> None:
    """Compare the detections of both in all images, and in a batch of them, and report differences and times.

    Raises:
        RunFailure: they differ by more than the limits in float32, or the exported model does not run.
    """
    is_exact = exported.facts.precision == "float32"
    limits = {"least": LEAST_SCORE, "score_limit": SCORE_LIMIT if is_exact else COARSE_SCORE_LIMIT}
    rows, seconds = [], []
    for name, image in images:
        [wanted], seconds_wanted = _timed(partial(_found_by, model, exported.facts), [image])
        [found], seconds_found = _timed(exported.detect, [image])
        rows.append((name, f"{image.shape[2]}x{image.shape[1]}", compare(wanted, found, **limits)))
        seconds.append((seconds_wanted, seconds_found))
    differences = [difference for *_, difference in rows]
    if exported.facts.batched:
        batch = [image for _, image in islice(cycle(images), BATCH)]
        pairs = zip(_found_by(model, exported.facts, batch), exported.detect(batch), strict=True)
        rows.append((f"a batch of {BATCH} of them", "", worst([compare(*pair, **limits) for pair in pairs])))
    report(_table(rows))
    if is_exact and not all(difference.agrees for *_, difference in rows):
        raise RunFailure(
            f"the exported model does not agree with PyTorch: boxes may differ by {BOX_LIMIT} pixels, scores by "
            f"{SCORE_LIMIT}, masks by {MASK_LIMIT}",
            "nothing was written; try another --format, and look at what the model does with shapes of tensors",
        )
    own, its = (min(times) for times in zip(*seconds, strict=True))
    times = f"{its:.3f} s per image, PyTorch {own:.3f} s (the fastest of {len(images)})"
    if any(difference.wanted for difference in differences):
        report(f"it agrees; {times}" if is_exact else times)
    else:
        report(
            "not checked: there were no detections to compare; name images that have some with --picture FILE, or "
            f"lower the model's score threshold; {times}"
        )


def sets_to_measure(trained: TrainedModel, facts: ModelFacts, allow_loss: bool) -> list[EvaluatedSet]:
    """The test sets that AP is measured on; none where the data is not at hand, or for a fixed size, which is another
    than that of evaluation, so that AP would tell of the size.

    Raises:
        UserError: a set has other classes than the model; or there is none, so that what a lower precision loses would
            not be known, unless it is allowed.
    """
    sets = sets_at_hand(trained) if facts.dynamic else []
    if not (sets or facts.precision == "float32" or allow_loss):
        raise UserError(
            f"what {facts.precision} loses of AP is not known: the test set is not here",
            "bring the data, with dataloader.root=FOLDER, or take the file as it is with --allow-loss",
        )
    return sets


def check_average_precision(
    model: nn.Module,
    exported: ExportedModel,
    sets: Sequence[EvaluatedSet],
    allow_loss: bool,
    report: Callable[[str], None],
) -> dict[str, dict[str, float]]:
    """AP by task on the test sets, of the model and of the exported one; empty where there are none.

    Raises:
        RunFailure: it loses more than `AP_LIMITS`, unless that is allowed.
    """
    precision = exported.facts.precision
    if not sets:
        reason = "the test set is not here" if exported.facts.dynamic else "it is measured of models of any size"
        report(f"AP is not measured: {reason}")
        return {}
    own = average_precision(model, sets)
    found = average_precision(ExportedModule(exported), sets)
    images = sum(len(one.dataset) for one in sets)
    texts = [f"{task} {ap:.2f}, PyTorch {own[task]:.2f}" for task, ap in found.items()]
    report(f"AP on {counted(images, 'image')} of the test set: {'; '.join(texts)}")
    loss, limit = largest_loss(own, found), AP_LIMITS[precision]
    if loss > limit:
        message = f"it loses {loss:.2f} AP, where {precision} may lose {limit}"
        if not allow_loss:
            raise RunFailure(
                message, "nothing was written; calibrate int8 on more images, or take it with --allow-loss"
            )
        report(message)
    return {task: {"pytorch": own[task], "exported": ap} for task, ap in found.items()}


def _found_by(model: nn.Module, facts: ModelFacts, images: Sequence[np.ndarray]) -> list[dict[str, np.ndarray]]:
    """What the model itself finds, as an exported one tells it."""
    with torch.no_grad():
        batch = [{"image": torch.from_numpy(image).to(facts.device)} for image in images]
        results = model.inference(batch, do_postprocess=False)
    found = []
    for one in results:
        values = [one.pred_boxes.tensor, one.scores, one.pred_classes]
        values += [one.pred_masks[:, 0]] if one.has("pred_masks") else []
        found.append({name: tensor.cpu().numpy() for name, tensor in zip(OUTPUTS, values, strict=False)})
    return found


def _table(rows: Sequence[tuple[str, str, Difference]]) -> str:
    head = ("image", "size", "detections", "boxes, px", "scores", "masks")
    cells = [
        (
            name,
            size,
            f"{d.wanted}" + (f", {d.unmatched} without a pair" if d.unmatched else ""),
            *(f"{value:.1g}" for value in (d.boxes, d.scores, d.masks)),
        )
        for name, size, d in rows
    ]
    return tabulate(cells, head, disable_numparse=True)


def _timed(model: Callable, image: Any) -> tuple[Any, float]:
    start = time.perf_counter()
    return model(image), time.perf_counter() - start
