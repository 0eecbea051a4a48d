"""Advice that follows from classes and masks: the heads, and how often images of a kind are seen."""

from collections import Counter

import numpy as np

from xray_lazy.config.names import target_of
from xray_lazy.data.balance import RepeatFactors
from xray_lazy.data.datasets import DetectionDataset
from xray_lazy.engine.recipe.box_table import BoxTable
from xray_lazy.engine.recipe.draft import REMOVED, Draft
from xray_lazy.engine.weights.class_axes import number_of_classes_keys
from xray_lazy.utils.wording import counted

MASKS = 0.9  # of the instances that need a mask for masks to be learned: the others are left out of training
MASK_PARTS = ("roi_heads.mask_in_features", "roi_heads.mask_pooler", "roi_heads.mask_head", "mask_head")
IMBALANCE = 2.0  # a repeat factor below this is not worth a longer epoch
MOST_REPEATS = 4.0
FEW = 10  # instances of a class
SCANNERS = 4.0  # times as many images of one scanner as of another
EMPTY = 0.5  # share of the images
BALANCE = "dataloader.train.sampler.balance"
MAPPER = "dataloader.train.mapper.with_masks"


def learns_masks(dataset: DetectionDataset) -> bool:
    """Whether a set has the masks that a mask head needs: of nearly all instances, and of each class."""
    boxes, masks = np.array(dataset.trained_boxes), np.array(dataset.trained_masks)
    return bool(boxes.sum() and masks.sum() >= MASKS * boxes.sum() and (masks[boxes > 0] > 0).all())


def advise_masks(draft: Draft, dataset: DetectionDataset) -> None:
    """Advise boxes alone where the masks are too few."""
    share = sum(dataset.trained_masks) / max(1, sum(dataset.trained_boxes))
    have = f"{share:.0%} of the instances have a mask"
    if not draft.get(MAPPER):
        learnable = "; configs/xray/mask_rcnn_r50.py would learn them" if learns_masks(dataset) else ""
        draft.advise("masks", {}, f"the config learns boxes only; {have}{learnable}")
        return
    if learns_masks(dataset):
        draft.advise("masks", {}, f"{have}: they are learned")
        return
    changes = {MAPPER: False} | {f"model.{part}": REMOVED for part in MASK_PARTS}
    for key in ("hooks.best_checkpoint.metric", "hooks.early_stopping.metric"):
        if isinstance(metric := draft.get(key), str):
            changes[key] = metric.replace("segm", "bbox")
    reason = (
        f"{have}; training of masks leaves the others out and needs some of each class: below {MASKS:.0%} boxes only"
    )
    draft.advise("masks", changes, reason)


def advise_classes(draft: Draft, dataset: DetectionDataset) -> None:
    """Advise heads of as many classes as the set declares."""
    names, boxes = dataset.class_names, dataset.trained_boxes
    listed = ", ".join(f"{name} {count}" for name, count in list(zip(names, boxes, strict=True))[:20])
    more = ", ..." if len(names) > 20 else ""
    changes = {key: len(names) for key in number_of_classes_keys(draft.config.model, "model")}
    draft.advise("classes", changes, f"{counted(len(names), 'class', 'classes')}: {listed}{more}")
    few = [name for name, count in zip(names, boxes, strict=True) if count < FEW]
    if few:
        draft.cautions.append(f"fewer than {FEW} instances: {', '.join(few[:20])}; the AP of such classes is chance")


def advise_balance(draft: Draft, table: BoxTable, dataset: DetectionDataset) -> None:
    """Advise how often images of rare classes, of each scanner, and without items are seen."""
    if not draft.has(BALANCE):
        return
    # the threshold of repeat factors, which the configs come with, is what is found here
    if any(not isinstance(part, dict) or target_of(part) is not RepeatFactors for part in draft.get(BALANCE) or ()):
        draft.advise("sampling", {}, "the config has a balance of its own")
        return
    parts = (_repeats(table, dataset), _scanners(table), _empty_bags(table))
    balance = [part for part, _ in parts if part]
    draft.advise("sampling", {BALANCE: balance}, "; ".join(reason for _, reason in parts if reason))


def _repeats(table: BoxTable, dataset: DetectionDataset) -> tuple[dict | None, str]:
    """LVIS' repeat factors with a threshold at the median class, as far as that repeats no image too often."""
    frequencies = table.frequencies(len(dataset.class_names))
    least, median, most = np.quantile(frequencies[frequencies > 0], (0, 0.5, 1))
    threshold = float(f"{min(median, MOST_REPEATS**2 * least):.2g}")
    by_class = zip(dataset.class_names, frequencies, strict=True)
    factors = {name: max(1.0, (threshold / frequency) ** 0.5) for name, frequency in by_class if frequency}
    spread = f"classes are in {least:.1%} to {most:.1%} of the images, the median class in {median:.1%}"
    if max(factors.values()) < IMBALANCE:
        return None, f"{spread}: too even for repeat factors, of which the largest would be {max(factors.values()):.1f}"
    repeated = sorted((item for item in factors.items() if item[1] > 1.05), key=lambda item: -item[1])
    listed = ", ".join(f"{name} {factor:.1f}" for name, factor in repeated[:20])
    reason = (
        f"{spread}; LVIS' repeat factors, sqrt(threshold / share of the images), with the threshold at the median "
        f"class, or where the rarest is repeated {MOST_REPEATS:g} times: {listed}"
    )
    return {"_target_": "xray_lazy.data.balance.RepeatFactors", "threshold": threshold}, reason


def _scanners(table: BoxTable) -> tuple[dict | None, str]:
    counts = Counter(table.set_names)
    if len(counts) < 2:
        return None, ""
    listed = ", ".join(f"{name} {count}" for name, count in counts.items())
    if max(counts.values()) < SCANNERS * min(counts.values()):
        return None, f"images of the sets: {listed}"
    weights = {name: round(count**0.5, 1) for name, count in counts.items()}
    reason = f"images of the sets: {listed}; weighted by their square roots, so that small ones count more"
    return {"_target_": "xray_lazy.data.balance.DatasetBalance", "weights": weights}, reason


def _empty_bags(table: BoxTable) -> tuple[dict | None, str]:
    share = float((table.per_image() == 0).mean())
    if share <= EMPTY:
        return None, f"{share:.0%} of the images are without items, and stay" if share else ""
    reason = f"{share:.0%} of the images are without items, of which {EMPTY:.0%} are enough"
    return {"_target_": "xray_lazy.data.balance.EmptyShare", "share": EMPTY}, reason
