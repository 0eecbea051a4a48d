"""Which values the config's keys may have, where the class that gets one doesn't say so itself."""

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from xray_lazy.config import Fault
from xray_lazy.config.keys import MISSING, is_within, read, walk
from xray_lazy.config.period import is_period_key
from xray_lazy.config.suggest import did_you_mean, nearest
from xray_lazy.engine.precision import DTYPES, MATMUL_PRECISIONS
from xray_lazy.utils.limits import Limits

COUNT = Limits(least=0, whole=True)
SOME = Limits(least=1, whole=True)
SEED = Limits(least=0, most=2**63 - 1, whole=True)  # torch takes no larger one
SHARE = Limits(least=0, most=1)
SOME_SHARE = Limits(above=0, most=1)
PERCENT = Limits(above=0, below=100)
POSITIVE = Limits(above=0)
NOT_NEGATIVE = Limits(least=0)
CHANNELS = ("BGR", "RGB")
PERIOD = SOME
PERIOD_OR_OFF = COUNT

# Patterns of keys, `*` for anything, dots included; the first one that fits a key counts. Of a list, each item's, as
# deep as lists go.
SETTINGS: dict[str, Limits | type | tuple[str, ...]] = {
    "train.output_dir": str,
    "train.max_iter": SOME,
    "train.max_epochs": POSITIVE,
    "train.seed": SEED,
    "train.deterministic": bool,
    "train.device": ("auto", "cuda", "cpu"),
    "train.amp.enabled": bool,
    "train.amp.dtype": tuple(DTYPES),
    "train.float32_matmul": MATMUL_PRECISIONS,
    "train.accumulate": SOME,
    "train.max_skipped_steps": COUNT,
    "train.clip_gradients.enabled": bool,
    "train.clip_gradients.max_norm": POSITIVE,
    "train.compile.enabled": bool,
    "train.channels_last": bool,
    "train.ddp.find_unused_parameters": bool,
    "train.scale_lr.enabled": bool,
    "train.scale_lr.batch_size": SOME,
    "train.log_period": PERIOD,
    "train.eval_period": PERIOD_OR_OFF,
    "train.checkpointer.period": PERIOD,
    "train.checkpointer.*": COUNT,
    "optimizer.lr": NOT_NEGATIVE,  # a sweep may begin at 0
    "optimizer.momentum": Limits(least=0, below=1),
    "optimizer.weight_decay": NOT_NEGATIVE,
    "optimizer.betas": Limits(least=0, below=1),
    "optimizer.eps": POSITIVE,
    "optimizer.params.weight_decay*": NOT_NEGATIVE,
    "optimizer.params.lr_factors*": NOT_NEGATIVE,
    "optimizer.params.layer_decay": SOME_SHARE,
    "lr_multiplier.warmup_iters": COUNT,
    "lr_multiplier.warmup_factor": SHARE,
    "lr_multiplier.final_factor": SHARE,
    "lr_multiplier.milestones": SHARE,
    "lr_multiplier.gamma": POSITIVE,
    "dataloader.*reader.channels": SOME,
    "dataloader.*reader.window": Limits(),
    "dataloader.*reader.gain": POSITIVE,
    "dataloader.*reader.log_attenuation": bool,
    "dataloader.*reader.deepest": POSITIVE,
    "dataloader.*reader.shown": Limits(whole=True),
    "dataloader.*batch_size": SOME,
    "dataloader.*.num_workers": COUNT,
    "dataloader.*.max_unreadable": COUNT,
    "dataloader.*.similar_shapes": SOME,
    "dataloader.*.image_format": CHANNELS,
    "dataloader.*.seed": SEED,
    "dataloader.*.fraction": SOME_SHARE,
    "dataloader.*.max_pictures": SOME,
    "dataloader.*.max_gib": POSITIVE,
    "dataloader.*.cache.folder": str,
    "dataloader.*.max_size": SOME,
    "dataloader.*.short_edge_length": SOME,
    "dataloader.*.prob": SHARE,
    "dataloader.*.crop_size": POSITIVE,
    "dataloader.*.target_height": SOME,
    "dataloader.*.target_width": SOME,
    "dataloader.*.m??_scale": POSITIVE,
    "dataloader.test_apart": bool,
    "dataloader.evaluator.max_detections": SOME,
    "dataloader.evaluator.screening.enabled": bool,
    "dataloader.evaluator.screening.hit": ("iou", "centre"),
    "dataloader.evaluator.screening.iou": SOME_SHARE,
    "dataloader.evaluator.screening.group_by": str,
    "dataloader.evaluator.screening.view_fusion": str,
    "dataloader.evaluator.screening.false_alarms": PERCENT,
    "dataloader.evaluator.screening.detections": PERCENT,
    "dataloader.evaluator.screening.per_class": bool,
    "hooks.checkpoint.period": PERIOD,
    "hooks.*.period": PERIOD_OR_OFF,
    "hooks.*.max_to_keep": COUNT,
    "hooks.*.keep_every": COUNT,
    "hooks.*.keep": SOME,
    "hooks.*.count": COUNT,
    "hooks.*.worst": COUNT,
    "hooks.*.long_edge": SOME,
    "hooks.*.score_threshold": SHARE,
    "hooks.*.num_batches": COUNT,
    "hooks.*.min_delta": NOT_NEGATIVE,
    "hooks.*.warmup*": COUNT,
    "hooks.*.steps": SOME,
    "hooks.*.time_limit": POSITIVE,
    "writers.*.period": PERIOD_OR_OFF,
    "writers.*.window_size": SOME,
    "writers.*timeout": NOT_NEGATIVE,
    "test.tta.enabled": bool,
    "test.tta.*.image_format": CHANNELS,
    "test.tta.*_size": SOME,
    "test.tta.*.short_edge_lengths": SOME,
    "test.tta.*.nms_threshold": SHARE,
    "test.tta.*.detections_per_image": SOME,
    "model.*nms_thresh": SHARE,
    "model.*.test_score_thresh": SHARE,
    "model.*.positive_fraction": SHARE,
    "model.*.batch_size_per_image": SOME,
    "model.*.p*_nms_topk": SOME,
    "model.*.test_topk_per_image": SOME,
    "model.*num_classes": SOME,
    "model.*num_proposals": SOME,
    "model.*num_stages": SOME,
    "model.*_channels": SOME,
    "model.*_dim": SOME,
    "model.*_weight": NOT_NEGATIVE,
    "model.*nms_threshold": SHARE,
    "model.*dropout": Limits(least=0, below=1),
    "model.*drop_path_rate": Limits(least=0, below=1),
    "model.*smooth_l1_beta": NOT_NEGATIVE,
    "model.*prior_probability": Limits(above=0, below=1),
    "model.*uncertain_share": SHARE,
    "model.*classification.alpha": Limits(above=0, below=1),  # at an end nothing is learned of items, or of the rest
    "model.classification.gamma": NOT_NEGATIVE,
    "model.*assigner.alpha": NOT_NEGATIVE,
    "model.*assigner.beta": NOT_NEGATIVE,
    "model.*matcher*.labels": Limits(least=-1, most=1, whole=True),
    "model.*transform*.weights": POSITIVE,
    "model.*.scale_clamp": POSITIVE,
    "model.*anchor_generator.sizes": POSITIVE,
    "model.*anchor_generator.offset": Limits(least=0, below=1),
    "model.*.strides": SOME,
    "model.*.scales": POSITIVE,
    "model.*.scale_factors": POSITIVE,
    "model.*.input_shape.*": SOME,
    "model.*.output_size": SOME,
    "model.*.pooler_size": SOME,
    "model.*.pooler_resolution": SOME,
    "model.*detections_per_image": SOME,
    "model.*.coarse_size": SOME,
    "model.*.img_size": SOME,
    "model.*.patch_size": SOME,
    "model.*.window_size": COUNT,
    "model.*.window_block_indexes": COUNT,
    "model.*.square_pad": COUNT,
    "model.*.fc_dims": SOME,
    "model.*.point_dims": SOME,
    "model.*.depth": SOME,
    "model.*.stride_per_block": SOME,
    "model.*.num_convs": COUNT,
    "model.*num_*layers": COUNT,
    "model.*_head*.conv_dims": SOME,
    "model.*.num_heads": SOME,
    "model.*.num_blocks": SOME,
    "model.*.num_anchors": SOME,
    "model.*.num_candidates": SOME,
    "model.*.focusing": NOT_NEGATIVE,
    "model.denoising.num_queries": SOME,
    "model.denoising.box_noise": Limits(least=0, below=1),  # at 1 a box may have no width
    "model.*.top_k": SOME,
    "model.*_points": SOME,
    "model.*.oversample_ratio": SOME,
    "model.*.subdivision_steps": COUNT,
    "model.*.sampling_ratio": COUNT,
    "model.*.freeze_at": COUNT,
    "model.*.feature_level": COUNT,
    "model.*.seed": SEED,
    "model.input_format": CHANNELS,
    "model.pixel_std": POSITIVE,
    "model.pixel_mean": Limits(),
    "hooks.*.metric": str,
}

# Keys that may be null, which means the default of the class that gets them.
OPTIONAL = (
    "model.*.feature_level",
    "train.max_epochs",
    "dataloader.*.seed",
    "dataloader.*.max_pictures",
    "dataloader.*.cache.folder",
    "dataloader.*reader.window",
    "dataloader.*reader.shown",
    "dataloader.evaluator.screening.group_by",
    "dataloader.evaluator.screening.view_fusion",
    "writers.*.period",
    "optimizer.params.weight_decay*",
    "optimizer.params.lr_factors",
    "model.*.out_channels",
    "model.*.input_shape.*",
)


def allowed_values(key: str) -> Limits | type | tuple[str, ...] | None:
    """What the value of a dotted key may be; None where nothing is said of it."""
    return next((allowed for pattern, allowed in SETTINGS.items() if fnmatchcase(key, pattern)), None)


def check_settings(cfg: DictConfig, below: Sequence[str] | None = None) -> list[Fault]:
    """Values that can't be meant, such as a negative learning rate or a text where a number belongs.

    Args:
        cfg: a config whose references lead somewhere.
        below: only these keys and what is in them; None for all.
    """
    own, referred = [], []
    for key, container, part in walk(cfg):
        if below is not None and not is_within(key, below):
            continue
        faults = list(_value_faults(key, part, read(container, part)))
        (referred if OmegaConf.is_interpolation(container, part) else own).extend(faults)
    return own or referred  # what refers to a faulty value is faulty with it


def _value_faults(key: str, part: Any, value: Any) -> Iterator[Fault]:
    allowed = None if part == "_target_" else allowed_values(key)
    is_missing = isinstance(value, str) and value == MISSING  # an array would compare each of its numbers
    if allowed is None or is_missing or (value is None and any(fnmatchcase(key, o) for o in OPTIONAL)):
        return
    if isinstance(value, str) and is_period_key(part):
        return  # in epochs: `check_periods` reads it
    if isinstance(value, DictConfig):
        return  # its values have keys of their own
    for item in _items(value) if isinstance(allowed, Limits) else [value]:
        complaint = _complaint(item, allowed)
        if complaint:
            yield Fault(key, *complaint)
            return


def _items(value: Any) -> Iterator[Any]:
    """The items of a list and of lists in it; what is no list, itself."""
    if isinstance(value, (list, tuple, ListConfig)):
        for item in value:
            yield from _items(item)
    else:
        yield value


def _complaint(value: Any, allowed: Limits | type | tuple[str, ...]) -> tuple[str, str] | None:
    """What is wrong with a value, and what to write instead; None where nothing is."""
    shown = "null" if value is None else repr(value)
    if hasattr(value, "tolist") and not isinstance(value, float):  # arrays, tensors, and integers of numpy
        return f"it is of the type {type(value).__name__}", "write it in plain numbers: append .tolist()"
    if isinstance(allowed, Limits):
        if isinstance(value, DictConfig):
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return f"{shown} is not a number", f"write {allowed}"
        if allowed.whole and isinstance(value, float) and value.is_integer():
            return f"{shown} is not a whole number", f"write {int(value)}"  # as a float it is no number of images
        complaint = allowed.complaint(value)
        return (complaint, f"write {allowed}") if complaint else None
    if isinstance(allowed, tuple):
        near = did_you_mean(nearest(value, allowed)) if isinstance(value, str) else ""
        return None if value in allowed else (f"it is {shown}", near or f"it may be {', '.join(allowed)}")
    if allowed is bool:
        return None if isinstance(value, bool) else (f"{shown} is not a flag", "write true or false")
    return None if isinstance(value, str) and value else (f"{shown} is not a text", "give a text that is not empty")
