"""What the rows of the table are made of: trainers, and overrides of our configs."""

from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
SPARSE_RCNN = "projects/sparse_rcnn/configs"


@dataclass(frozen=True)
class Row:
    """One of the detectors that are compared.

    Attributes:
        trainer: file that is run with a job.
        settings: for it.
        peers: it needs the peers' environment.
        pretrained: it starts from the backbone's weights that `--pretrained` names.
    """

    trainer: Path
    settings: dict = field(default_factory=dict)
    peers: bool = False
    pretrained: bool = False


def own(config: str, *overrides: str, queries: bool = False, pretrained: bool = False) -> Row:
    """A config of the repository with the batch of all rows of ours; the trainer adds the images' sizes."""
    shared = [
        "dataloader.train.total_batch_size=8",
        "dataloader.test.batch_size=8",
        "dataloader.train.mapper.with_masks=False",
        "hooks.best_checkpoint.metric=bbox/AP",
    ]
    settings = {"config": config, "overrides": [*shared, *overrides], "queries": queries}
    return Row(HERE / "own.py", settings, pretrained=pretrained)


WITHOUT_MASKS = [f"model.roi_heads.{key}=null" for key in ("mask_in_features", "mask_pooler", "mask_head")]
# half precision is fast on processors with AMX or AVX512-BF16; the average of the weights helps short trainings
RECIPE = (
    "train.amp.enabled=True",
    "train.channels_last=True",
    "hooks.ema.decay=0.998",
    "hooks.ema.evaluate=instead",
    "optimizer.lr=0.001",
    "optimizer.weight_decay=0.05",
    "train.clip_gradients.max_norm=10.0",
    "dataloader.train.total_batch_size=16",
    "model.init_proposal_boxes.num_candidates=200",
)
# what the config of image_proposals has, for the other sources of boxes
AS_IMAGE_PROPOSALS = (
    "model.denoising={_target_: sparse_rcnn.denoising.Denoising, num_queries: 30, box_noise: 0.4}",
    "model.num_proposals=50",
    "optimizer.lr=0.001",
    "hooks.ema.decay=0.995",
    "hooks.ema.evaluate=instead",
    "train.clip_gradients.max_norm=10.0",
    "train.channels_last=True",
)
HALF_PRECISION = "train.amp.enabled=True"
OVERLAP = (
    "model.classification={_target_: sparse_rcnn.classification.OverlapClassification,"
    " num_classes: '${model.num_classes}'}"
)


def frozen(*parts: str) -> str:
    """The override by which these parts of the pretrained backbone stay as ImageNet left them."""
    return f"train.freeze=[{','.join(f'backbone.bottom_up.network.{part}' for part in parts)}]"


# depthwise convolutions are slower in half precision; the first stages are not trained
def efficientnet(*levels: str) -> tuple[str, ...]:
    """Overrides that take the pretrained backbone for these levels."""
    return (
        "model.backbone.bottom_up={_target_: xray_lazy.modeling.timm_backbone.TimmBackbone,"
        f" name: tf_efficientnet_lite0, out_features: [{','.join(levels)}]}}",
        "model.pixel_mean=[127.0,127.0,127.0]",
        "model.pixel_std=[128.0,128.0,128.0]",
        "model.input_format=RGB",
        "train.amp.enabled=False",
        frozen("conv_stem", "blocks.0", "blocks.1"),
    )


# half of the backbone stays as ImageNet left it, the rest learns slowly: a few hundred images are soon known by heart
SLOW_BACKBONE = (
    "dataloader.train.total_batch_size=8",
    "optimizer.params.lr_factors={backbone.bottom_up: 0.2}",
    frozen("conv_stem", "blocks.0", "blocks.1", "blocks.2"),
)


def resize(short_edges: str) -> str:
    """An entry of `augmentations`; the trainer puts numbers of pixels in place of the names, see `own.sizes`."""
    return (
        "{_target_: detectron2.data.transforms.ResizeShortestEdge, sample_style: choice,"
        f" short_edge_length: {short_edges}, max_size: MAX_SIZE}}"
    )


RESIZE = resize("SHORT_EDGES")
FLIPS = (
    "{_target_: detectron2.data.transforms.RandomFlip, horizontal: True},"
    "{_target_: detectron2.data.transforms.RandomFlip, horizontal: False, vertical: True}"
)
BOTH_FLIPS = (f"dataloader.train.mapper.augmentations=[{RESIZE},{FLIPS}]",)
OURS = "xray_lazy.data.augmentation"
SCANNER_RESPONSE = (
    f"{{_target_: {OURS}.recording.RandomScannerResponse, gain: [0.85,1.08], attenuation: [0.7,1.4], channels: 0.15,"
    " noise: [0.0,6.0]}"
)
CROP = f"{{_target_: {OURS}.whole_item_crop.RandomWholeItemCrop, sides: [0.6,1.0], tries: 10}}"
JPEG = f"{{_target_: {OURS}.recording.RandomJpeg}}"
COLOURS = f"{{_target_: {OURS}.scanner_colours.ScannerColours, statistics: COLOURS}}"
QUARTER_TURNS = f"{{_target_: {OURS}.quarter_turns.RandomQuarterTurn}}"
AS_XRAYS_ALLOW = (
    f"dataloader.train.mapper.augmentations=[{CROP},{RESIZE},{FLIPS},{SCANNER_RESPONSE}]",
    f"dataloader.train.mapper.mixing=[{{_target_: {OURS}.mosaic.Mosaic, probability: 0.3}},"
    f"{{_target_: {OURS}.background_mixing.BackgroundMixing, probability: 0.25}}]",
)
OF_QUERIES = ("res3", "res4", "res5")
SLOW_QUERIES = (*RECIPE, *efficientnet(*OF_QUERIES), *SLOW_BACKBONE, "optimizer.lr=0.0007", "model.hidden_dim=96")

# the steps that made faster_rcnn_few_scans quick
QUICK_QUERIES = (
    *SLOW_QUERIES,
    HALF_PRECISION,
    "dataloader.train.total_batch_size=16",
    "dataloader.train.similar_shapes=8",
    "hooks.ema.decay=0.995",
    "optimizer.lr=0.001",
    frozen("conv_stem", "blocks.0", "blocks.1", "blocks.2", "blocks.*.conv_dw"),
)
