"""Advice on batch, length, warm-up, evaluations and workers: from the number of images, GPUs and cores."""

from math import ceil

from xray_lazy.engine.epochs import iterations_per_epoch
from xray_lazy.engine.recipe.box_table import BoxTable
from xray_lazy.engine.recipe.draft import Draft

BATCH, ACCUMULATE = "dataloader.train.total_batch_size", "train.accumulate"
EPOCHS, ENOUGH_IMAGES, MOST_EPOCHS = 12, 10_000, 100
# how many times as long a training takes that begins with so much less (He et al., Rethinking ImageNet Pre-training)
LENGTH_FACTORS = {"a detector": 1, "a backbone": 2, "nothing": 3}
NEAR = 0.25  # lengths that differ less are left as they are
EVALUATIONS = 10
WARM_UP = 0.1  # of the iterations, at most
# detectron2's model zoo: 3.4 GB for 2 images and a GPU, of a Mask R-CNN R50-FPN at 800x1333
IMAGE_GIB, MODEL_GIB, IMAGE_PIXELS = 1.2, 1.0, 800 * 1333


def advise_batch(
    draft: Draft, table: BoxTable, gpus: int, memory: float | None, size: tuple[float, float] | None
) -> None:
    """Advise a batch that divides by the GPUs and fits into their memory (GiB of each)."""
    batch, images = draft.get(BATCH), len(table.image_sizes)
    new = batch if draft.is_given(BATCH) else max(1, min(round(batch / gpus), images // gpus)) * gpus
    changes, reason = {BATCH: new}, "the learning rate is for it"
    if new != batch:
        why = f"is more than the {images} images" if batch > images else f"can't be spread over {gpus} GPUs"
        reason = f"the config's {batch} {why}; the learning rate follows the batch (linear scaling, Goyal et al., 2017)"
        if not draft.get("train.scale_lr.enabled"):
            changes |= {"train.scale_lr.enabled": True, "train.scale_lr.batch_size": batch}
    parts, each = draft.get(ACCUMULATE) or 1, max(1, new // gpus)
    if memory is not None and size is not None:
        image = IMAGE_GIB * size[0] * size[1] / IMAGE_PIXELS
        held = max(1, int((memory - MODEL_GIB) / image))
        parts = max(parts, ceil(each / held))
        reason += f"; a GPU gets {each}, its {memory:g} GiB hold about {held} at {image:.1f} GiB, those of an R50-FPN"
    else:
        reason += "; --memory GIB says in how many parts a GPU holds it"
    changes[ACCUMULATE] = next(n for n in range(min(parts, each), each + 1) if each % n == 0)
    draft.advise("batch", changes, f"{reason}; tools/find_batch_size.py measures what fits")


def advise_length(draft: Draft, table: BoxTable) -> None:
    """Advise iterations, warm-up and the period of evaluations and checkpoints."""
    images = max(1, int((table.per_image() > 0).sum()))
    start = starting_point(draft.get("train.init_checkpoint"))
    rise = max(1.0, (ENOUGH_IMAGES / images) ** 0.5)
    epochs = min(EPOCHS * rise, MOST_EPOCHS) * LENGTH_FACTORS[start]
    per_epoch = iterations_per_epoch(draft.config)
    rule = (
        f"{epochs:.0f} epochs of {per_epoch} iterations: {EPOCHS} epochs, detectron2's 1x, for {ENOUGH_IMAGES:,} "
        f"images with items and more; sqrt({ENOUGH_IMAGES:,} / {images:,}) = {rise:.1f} times as many here, "
        f"{MOST_EPOCHS} at most; times {LENGTH_FACTORS[start]}, as weights are of {start} (He et al., 2019). A rule of "
        f"thumb: the curve of the validation AP tells whether it was enough"
    )
    if draft.get("train.max_epochs") is not None:
        key, wanted = "train.max_epochs", round(epochs)
    else:
        key, wanted = "train.max_iter", _two_digits(epochs * per_epoch)
    near = _is_near(wanted, draft.get(key))
    rule += f". The config's {draft.get(key):,} is near that, and stays" if near else ""
    draft.advise("length", {} if near else {key: wanted}, rule)
    in_epochs = key == "train.max_epochs"
    iterations = max(1, round(draft.get(key) * per_epoch)) if in_epochs else draft.get(key)
    if start == "nothing" and images < ENOUGH_IMAGES:
        draft.cautions.append(
            f"training begins with no weights: on fewer than {ENOUGH_IMAGES:,} images a detector that was "
            f"pretrained on COCO gets further in less time (train.init_checkpoint of configs/xray/mask_rcnn_r50.py)"
        )
    _advise_warm_up(draft, iterations)
    _advise_evaluations(draft, iterations)
    _advise_early_stopping(draft)


def starting_point(weights: str | None) -> str:
    """What the weights that training begins with have learned before, a key of `LENGTH_FACTORS`."""
    if not weights:
        return "nothing"
    backbones = ("imagenet", "timm://", "torchvision")
    return "a backbone" if any(name in weights.lower() for name in backbones) else "a detector"


def advise_workers(draft: Draft, gpus: int, cores: int) -> None:
    """Advise no more reading processes than there are cores for."""
    most = max(1, cores // gpus)
    keys = [f"dataloader.{name}.num_workers" for name in ("train", "test")]
    changes = {key: most for key in keys if isinstance(draft.get(key), int) and draft.get(key) > most}
    draft.advise("workers", changes, f"for each GPU's process no more than its share of the {cores} cores here: {most}")


def _advise_warm_up(draft: Draft, iterations: int) -> None:
    key, most = "lr_multiplier.warmup_iters", max(0, ceil(iterations * WARM_UP))
    present = draft.get(key)
    if isinstance(present, int):
        changes = {key: most} if present > most else {}
        draft.advise("warm-up", changes, f"at most a tenth of the {iterations:,} iterations")


def _advise_evaluations(draft: Draft, iterations: int) -> None:
    period, keys = max(1, ceil(iterations / EVALUATIONS)), ("train.eval_period", "train.checkpointer.period")
    present = {key: draft.get(key) for key in keys}
    numbers = {key: value for key, value in present.items() if isinstance(value, int) and value}  # not epochs, nor off
    changes = {} if all(_is_near(value, period) for value in numbers.values()) else dict.fromkeys(numbers, period)
    reason = f"about {EVALUATIONS} of them: the best weights are chosen there, and each costs a pass over the set"
    draft.advise("evaluations", changes, reason)


def _advise_early_stopping(draft: Draft) -> None:
    key = "hooks.early_stopping.patience"
    if not draft.has(key):
        return
    if "constant" in str(draft.get("lr_multiplier._target_")):
        changes = {} if draft.get(key) else {key: 3}
        draft.advise(
            "early stopping", changes, "the learning rate doesn't fall: after 3 evaluations without a better one"
        )
    else:
        reason = "none is advised: the learning rate falls until the end, which often brings the last points of AP; "
        draft.advise("early stopping", {}, f"{reason}model_best.pth keeps the best weights")


def _is_near(value: float, other: float) -> bool:
    return abs(value - other) <= NEAR * other


def _two_digits(value: float) -> int:
    return max(1, int(float(f"{value:.2g}")))
