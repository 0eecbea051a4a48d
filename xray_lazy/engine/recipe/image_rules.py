"""Advice that follows from the sizes of images and boxes: the size to train at, and anchors."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from xray_lazy.engine.recipe.anchor_fit import best_overlaps, fit_anchors, read_anchors
from xray_lazy.engine.recipe.box_table import BoxTable
from xray_lazy.engine.recipe.draft import Draft

SHARE = 0.95  # of the boxes that a size must be large enough for
LARGE = 96  # COCO's limit of large objects, pixels
NEAR = 0.1  # sizes that differ less are left as they are
LEAST_BOXES = 100  # on which anchors are judged
LEAST_GAIN = 0.1  # of the best possible recall, for which pretrained anchors are given up

TRAINING, TESTING, TTA = (
    "dataloader.train.mapper.augmentations",
    "dataloader.test.mapper.augmentations",
    "test.tta.model",
)
ANCHORS = "model.proposal_generator.anchor_generator"


def advise_image_size(draft: Draft, table: BoxTable) -> tuple[float, float] | None:
    """Advise at what size to train and test; returns the test size, (shorter edge, longest edge), where it is known."""
    train, test = _resize_key(draft, TRAINING), _resize_key(draft, TESTING)
    sizes = f"images are {table.common_sizes()}"
    if test is None:
        draft.advise("image size", {}, f"{sizes}; the config resizes by other means than ResizeShortestEdge")
        return None
    short, longest = _size(draft, test)
    least = _least_side(draft)
    original = float(np.median(table.image_sizes.min(1)))
    most = max(original, short)
    new_short = _in_steps(min(_wanted_short_edge(table, least), most), most)
    aspect = float(np.quantile(table.image_sizes.max(1) / table.image_sizes.min(1), SHARE))
    own_longest = float(np.quantile(table.image_sizes.max(1), SHARE))
    new_longest = max(new_short, round(min(new_short * aspect, max(longest, own_longest))))
    before, after = (_share_of_wide(table, least, *size) for size in ((short, longest), (new_short, new_longest)))
    ends = "Nothing is raised above the images' own size, which costs and shows no more"
    if short > original:
        ends = f"The config enlarges most images, whose median is {original:.0f}: that stays as far as boxes need it"
    rule = (
        f"{sizes}; a short side of {least} pixels gives each of ROIAlign's bins a cell of the finest level: "
        f"{before:.0%} of the boxes have it at {short}x{longest} as in the config, {after:.0%} at "
        f"{new_short}x{new_longest}; wanted are {SHARE:.0%}, and half of the boxes as large as {LARGE}x{LARGE}, COCO's "
        f"limit of large ones. "
        f"{ends}"
    )
    if draft.is_given(f"{test}.short_edge_length"):  # and its relation to training's size
        draft.advise("image size", {}, f"{rule}. You gave {short}, which stays, and so do the other sizes")
    elif abs(new_short - short) <= NEAR * short and new_longest <= (1 + NEAR) * longest:
        draft.advise("image size", {}, f"{rule}. The config's size is near that, and stays")
    else:
        factor = new_short / short
        changes = _sizes(draft, test, factor, new_longest)
        changes |= _sizes(draft, train, factor, new_longest) if train else {}
        if edges := draft.get(f"{TTA}.short_edge_lengths"):
            changes[f"{TTA}.short_edge_lengths"] = _scaled(edges, factor)
            changes[f"{TTA}.max_size"] = round(new_longest * max(1.0, max(edges) / short))
        pixels = _pixels(table, new_short, new_longest) / _pixels(table, short, longest)
        draft.advise("image size", changes, f"{rule}. An image has {pixels:.2f} times the pixels it had before")
    if after < SHARE - 0.05:
        draft.cautions.append(
            f"{1 - after:.0%} of the boxes have a short side below {least} pixels at the advised size; a larger one is "
            f"worth a trial where such items matter, e.g. {test}.short_edge_length={round(1.5 * new_short)}"
        )
    return _size(draft, test)


def advise_anchors(draft: Draft, table: BoxTable, size: tuple[float, float] | None) -> None:
    """Advise anchors for the boxes at the size of testing, where the model has any."""
    if not draft.has(ANCHORS):
        return
    anchors, topic = read_anchors(draft.get(ANCHORS)), "anchors"
    if anchors is None or size is None:
        draft.advise(topic, {}, "the config's anchors or sizes are of another form, and stay")
        return
    if len(table.boxes) < LEAST_BOXES:
        draft.advise(topic, {}, f"{len(table.boxes)} boxes are too few to judge them; {LEAST_BOXES} are enough")
        return
    boxes = table.resized(*size)
    overlap = (draft.get("model.proposal_generator.anchor_matcher.thresholds") or [0.7])[-1]
    fitted = fit_anchors(boxes, anchors, overlap)
    now, best = (best_overlaps(boxes, one) for one in (anchors, fitted))
    sides = np.quantile(np.sqrt(boxes[:, 2:].prod(1)), (0.05, 0.5, 0.95))
    reason = (
        f"the roots of the boxes' areas are {sides[0]:.0f}, {sides[1]:.0f} and {sides[2]:.0f} pixels (5, 50, 95 %). "
        f"Best possible recall, the share that an anchor on the grid overlaps by IoU {overlap}: "
        f"{_recall(now, overlap):.0%} with the config's, {_recall(best, overlap):.0%} with the best of half to twice "
        f"their sizes; by 0.5 {_recall(now, 0.5):.0%} and {_recall(best, 0.5):.0%}"
    )
    gain, loss = _recall(best, overlap) - _recall(now, overlap), _recall(now, 0.5) - _recall(best, 0.5)
    if gain < LEAST_GAIN or loss > 0.005:
        draft.advise(topic, {}, f"{reason}. Too little to change them: each box is matched with its best one, too")
        return
    changes = {f"{ANCHORS}.sizes": [list(row) for row in fitted.sizes]}
    draft.advise(topic, changes | {f"{ANCHORS}.aspect_ratios": list(fitted.ratios)}, reason)


def _recall(overlaps: np.ndarray, least: float) -> float:
    return float((overlaps >= least).mean())


def _resize_key(draft: Draft, key: str) -> str | None:
    """The key of the one ResizeShortestEdge in a list of augmentations."""
    augmentations = draft.get(key)
    if not isinstance(augmentations, list):
        return None
    places = [n for n, one in enumerate(augmentations) if _is_resize(one)]
    return f"{key}.{places[0]}" if len(places) == 1 else None


def _is_resize(node: Any) -> bool:
    if not isinstance(node, Mapping):
        return False
    target = node.get("_target_")
    name = target if isinstance(target, str) else getattr(target, "__name__", "")
    known = "short_edge_length" in node and isinstance(node.get("max_size"), int)
    return known and name.rpartition(".")[2] == "ResizeShortestEdge"


def _least_side(draft: Draft) -> int:
    """Pixels that a box needs for ROIAlign's bins to have cells of their own on the finest level; of P2, 28."""
    for pooler in ("model.roi_heads.box_pooler", "model.head.box_pooler"):
        bins, scales = draft.get(f"{pooler}.output_size"), draft.get(f"{pooler}.scales")
        if isinstance(bins, int) and isinstance(scales, list) and scales:
            return round(bins / max(scales))
    return 28


def _wanted_short_edge(table: BoxTable, least: float) -> float:
    """The least shorter edge of images at which boxes are large enough to be told apart."""
    edges = table.image_sizes.min(1)[table.owners]
    thin = np.quantile(least * edges / table.boxes[:, 2:].min(1), SHARE)
    median = np.quantile(LARGE * edges / np.sqrt(table.boxes[:, 2:].prod(1)), 0.5)
    return float(max(thin, median))


def _share_of_wide(table: BoxTable, least: float, short: float, longest: float) -> float:
    return float((table.resized(short, longest)[:, 2:].min(1) + 1e-6 >= least).mean())


def _pixels(table: BoxTable, short: float, longest: float) -> float:
    sizes = table.image_sizes
    scales = np.minimum(short / sizes.min(1), longest / sizes.max(1))
    return float((sizes.prod(1) * scales**2).mean())


def _in_steps(edge: float, most: float) -> int:
    """Up to whole strides of the coarsest level of most backbones, but not above the images' own size."""
    return max(1, int(min(np.ceil(edge / 32) * 32, most)))


def _sizes(draft: Draft, key: str, factor: float, longest: int) -> dict[str, Any]:
    edges = draft.get(f"{key}.short_edge_length")
    is_range = draft.get(f"{key}.sample_style") != "choice"
    scaled = _scaled(_listed(edges), factor)
    scaled = scaled if is_range else sorted(set(scaled))
    return {
        f"{key}.short_edge_length": scaled if isinstance(edges, list) else scaled[0],
        f"{key}.max_size": longest,
    }


def _scaled(edges: list[int], factor: float) -> list[int]:
    return [max(1, round(edge * factor)) for edge in edges]


def _listed(value: Any) -> list:
    return value if isinstance(value, list) else [value]


def _size(draft: Draft, key: str) -> tuple[int, int]:
    return max(_listed(draft.get(f"{key}.short_edge_length"))), draft.get(f"{key}.max_size")
