"""The rows of the table: which trainer with which settings."""

from benchmarks.accuracy.recipes import (
    AS_IMAGE_PROPOSALS,
    AS_XRAYS_ALLOW,
    BOTH_FLIPS,
    COLOURS,
    CROP,
    FLIPS,
    HALF_PRECISION,
    HERE,
    JPEG,
    OF_QUERIES,
    OURS,
    OVERLAP,
    QUARTER_TURNS,
    QUICK_QUERIES,
    RECIPE,
    RESIZE,
    SCANNER_RESPONSE,
    SLOW_BACKBONE,
    SLOW_QUERIES,
    SPARSE_RCNN,
    WITHOUT_MASKS,
    Row,
    efficientnet,
    own,
    resize,
)

REPEAT = "{_target_: xray_lazy.data.balance.RepeatFactors, threshold: 0.1}"
MOSAIC = f"{{_target_: {OURS}.mosaic.Mosaic, probability: 0.25}}"
BACKGROUND = f"{{_target_: {OURS}.background_mixing.BackgroundMixing, probability: 0.25}}"
COPY_PASTE = f"{{_target_: {OURS}.copy_paste.CopyPaste, probability: 0.5}}"
# the library is small where items have boxes alone: of few items, rare ones as often as the others
THREATS = f"{{_target_: {OURS}.threat_projection.ThreatProjection, library: THREATS, occupied: 0.5, balance: 0.5}}"
# for empty bags alone
PROJECTED = f"{{_target_: {OURS}.threat_projection.ThreatProjection, library: THREATS, empty: 0.9}}"


def few_scans(
    augmentations: tuple[str, ...] = (RESIZE, FLIPS), mixing: tuple[str, ...] = (), balance: tuple[str, ...] = ()
) -> Row:
    """The detector for few scans with these parts of its augmentation, and no other."""
    parts = {"mapper.augmentations": augmentations, "mapper.mixing": mixing, "sampler.balance": balance}
    return own(
        "configs/xray/faster_rcnn_few_scans.py",
        "dataloader.train.total_batch_size=16",
        *(f"dataloader.train.{key}=[{','.join(entries)}]" for key, entries in parts.items()),
        pretrained=True,
    )


SMALLER = resize("SHORTER_EDGES")
# parts of augmentation alone, and together in other ways than in faster_rcnn_few_scans
ABLATION = {
    "few_scans_scale": few_scans((SMALLER, FLIPS)),
    "few_scans_response": few_scans((RESIZE, FLIPS, SCANNER_RESPONSE)),
    "few_scans_crop": few_scans((CROP, RESIZE, FLIPS)),
    "few_scans_turns": few_scans((QUARTER_TURNS, RESIZE, FLIPS)),
    "few_scans_colours": few_scans((RESIZE, FLIPS, COLOURS)),
    "few_scans_jpeg": few_scans((RESIZE, FLIPS, JPEG)),
    "few_scans_repeat": few_scans(balance=(REPEAT,)),
    "few_scans_mosaic": few_scans(mixing=(MOSAIC,)),
    "few_scans_background": few_scans(mixing=(BACKGROUND,)),
    "few_scans_copy_paste": few_scans(mixing=(COPY_PASTE,)),
    "few_scans_threats": few_scans(mixing=(THREATS,)),
    "few_scans_projected": few_scans(mixing=(PROJECTED,)),
    "few_scans_few_epochs": few_scans((RESIZE, FLIPS, SCANNER_RESPONSE), (BACKGROUND,), (REPEAT,)),
    "few_scans_few_epochs_threats": few_scans((RESIZE, FLIPS, SCANNER_RESPONSE), (THREATS, BACKGROUND), (REPEAT,)),
    "few_scans_together_threats": few_scans((SMALLER, FLIPS, SCANNER_RESPONSE), (MOSAIC, THREATS), (REPEAT,)),
}

ROWS: dict[str, Row] = {
    "faster_rcnn": own("configs/xray/mask_rcnn_r18_demo.py", *WITHOUT_MASKS),
    "learned_boxes": own(f"{SPARSE_RCNN}/sparse_rcnn_tiny_demo.py", queries=True),
    "box_transformer": own(f"{SPARSE_RCNN}/sparse_rcnn_tiny_box_transformer_demo.py", queries=True),
    "faster_rcnn_half": own("configs/xray/mask_rcnn_r18_demo.py", *WITHOUT_MASKS, HALF_PRECISION),
    "learned_boxes_half": own(
        f"{SPARSE_RCNN}/sparse_rcnn_tiny_demo.py", *AS_IMAGE_PROPOSALS, HALF_PRECISION, queries=True
    ),
    "box_transformer_half": own(
        f"{SPARSE_RCNN}/sparse_rcnn_tiny_box_transformer_demo.py", *AS_IMAGE_PROPOSALS, HALF_PRECISION, queries=True
    ),
    "image_proposals_half": own(
        f"{SPARSE_RCNN}/sparse_rcnn_tiny_image_proposals_demo.py", HALF_PRECISION, queries=True
    ),
    "image_proposals": own(f"{SPARSE_RCNN}/sparse_rcnn_tiny_image_proposals_demo.py", queries=True),
    "image_proposals_recipe": own(f"{SPARSE_RCNN}/sparse_rcnn_tiny_image_proposals_demo.py", *RECIPE, queries=True),
    "image_proposals_overlap": own(
        f"{SPARSE_RCNN}/sparse_rcnn_tiny_image_proposals_demo.py", *RECIPE, OVERLAP, queries=True
    ),
    "image_proposals_pretrained": own(
        f"{SPARSE_RCNN}/sparse_rcnn_tiny_image_proposals_demo.py",
        *RECIPE,
        *efficientnet(*OF_QUERIES),
        queries=True,
        pretrained=True,
    ),
    "image_proposals_slow_backbone": own(
        f"{SPARSE_RCNN}/sparse_rcnn_tiny_image_proposals_demo.py",
        *SLOW_QUERIES,
        *BOTH_FLIPS,
        queries=True,
        pretrained=True,
    ),
    "image_proposals_few_scans": own(
        f"{SPARSE_RCNN}/sparse_rcnn_tiny_image_proposals_demo.py",
        *QUICK_QUERIES,
        *BOTH_FLIPS,
        queries=True,
        pretrained=True,
    ),
    "image_proposals_augmented": own(
        f"{SPARSE_RCNN}/sparse_rcnn_tiny_image_proposals_demo.py",
        *SLOW_QUERIES,
        *AS_XRAYS_ALLOW,
        queries=True,
        pretrained=True,
    ),
    "faster_rcnn_slow_backbone": own(
        "configs/xray/mask_rcnn_r18_demo.py",
        *WITHOUT_MASKS,
        *efficientnet("res2", *OF_QUERIES),
        *SLOW_BACKBONE,
        *BOTH_FLIPS,
        "hooks.ema.decay=0.998",
        "hooks.ema.evaluate=instead",
        pretrained=True,
    ),
    # of images of half the size up to those of the others
    "faster_rcnn_few_scans": own(
        "configs/xray/faster_rcnn_few_scans.py",
        "dataloader.train.total_batch_size=16",
        "dataloader.train.mapper.augmentations.0.short_edge_length=SHORTER_EDGES",
        pretrained=True,
    ),
    "faster_rcnn_few_scans_plain": few_scans(),
    "detectron2": Row(HERE / "peers" / "plain_detectron2.py"),
    "torchvision": Row(HERE / "peers" / "torchvision_faster_rcnn.py", peers=True),
    "yolo11n": Row(HERE / "peers" / "yolo.py", {"model": "yolo11n.yaml"}, peers=True),
    "mayaku": Row(HERE / "peers" / "mayaku_uniquery.py", peers=True),
} | ABLATION
