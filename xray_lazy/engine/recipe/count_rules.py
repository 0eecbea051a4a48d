"""Advice that follows from how many items an image shows: how many detections and proposals of it there are."""

from math import ceil

import numpy as np

from xray_lazy.engine.recipe.box_table import BoxTable
from xray_lazy.engine.recipe.draft import Draft

DETECTIONS = 1.5  # for each item of the fullest image
PROPOSALS = 3  # the same for a model whose proposals are learned
POSITIVES = 4  # of the proposals drawn for training, for each item
MOST_DRAWN = 512  # detectron2's
LIMITS = ("model.roi_heads.box_predictor.test_topk_per_image", "dataloader.evaluator.max_detections")
LIMITS += ("test.tta.model.detections_per_image", "model.detections_per_image")
DRAWN, POSITIVE_SHARE = "model.roi_heads.batch_size_per_image", "model.roi_heads.positive_fraction"


def advise_counts(draft: Draft, table: BoxTable) -> None:
    """Advise numbers that leave room for the items of the fullest images."""
    counts = table.per_image()
    most, usual = int(counts.max()), int(np.quantile(counts, 0.95))
    items = f"an image shows up to {most} items, 95 % of them up to {usual}"
    needed = ceil(DETECTIONS * most / 50) * 50
    lower = {key: needed for key in LIMITS if isinstance(draft.get(key), int) and draft.get(key) < DETECTIONS * most}
    draft.advise("detections of an image", lower, f"{items}; {DETECTIONS:g} times as many are wanted at least")
    if isinstance(drawn := draft.get(DRAWN), int):
        wanted = POSITIVES * usual / (draft.get(POSITIVE_SHARE) or 0.25)
        changes = {DRAWN: min(MOST_DRAWN, 2 ** ceil(np.log2(wanted)))} if drawn < min(wanted, MOST_DRAWN) else {}
        reason = f"{items}; {POSITIVES} positive ones for each item, of which there are a quarter, at most {MOST_DRAWN}"
        draft.advise("proposals to learn from", changes, reason)
    key = "model.num_proposals"
    if isinstance(proposals := draft.get(key), int):
        changes = {key: ceil(PROPOSALS * most / 50) * 50} if proposals < PROPOSALS * most else {}
        draft.advise("proposals", changes, f"{items}; {PROPOSALS} for each item of the fullest one at least")
