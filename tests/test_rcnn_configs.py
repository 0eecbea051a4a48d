"""The R-CNNs that come along train and detect, made small, and published weights fit them as they are."""

import pytest
import torch
from detectron2 import model_zoo
from detectron2.config import get_cfg, instantiate
from detectron2.data import MetadataCatalog
from detectron2.modeling import build_model
from detectron2.projects.point_rend import add_pointrend_config
from detectron2.structures import ROIMasks
from detectron2.utils.events import EventStorage

from tests.data.coco_sets import reference
from xray_lazy.config import get_config
from xray_lazy.engine import experiment
from xray_lazy.engine.checkpoint import Checkpointer
from xray_lazy.engine.preflight.preflight import check_experiment
from xray_lazy.evaluation.encoded_inference import encoding_masks

RESNETS = ["mask_rcnn_r50", "cascade_mask_rcnn_r50", "point_rend_r50", "mask_rcnn_r50_lsj"]
CONVNEXTS = ["mask_rcnn_convnext_tiny", "mask_rcnn_dinov3_convnext_tiny"]
FINER = "model.roi_heads.mask_pooler.output_size=28"


def shrunk(name, tiny_set, *overrides):
    """An experiment with all of its parts and hardly any weights, on the tiny set."""
    cfg = get_config(f"xray/{name}.py", overrides)
    backbone, heads = cfg.model.backbone, cfg.model.roi_heads
    backbone.out_channels = 16
    if name in RESNETS:
        norm = backbone.bottom_up.stem.norm
        backbone.bottom_up = get_config("xray/mask_rcnn_r18_demo.py").model.backbone.bottom_up
        backbone.bottom_up.stem.norm = norm
    elif name in CONVNEXTS:
        backbone.bottom_up.name = "test_convnext"
        backbone.bottom_up.pop("drop_path_rate")
    else:
        backbone.net.update(img_size=64, embed_dim=16, depth=2, num_heads=2, window_size=2, window_block_indexes=[0])
        backbone.square_pad = 64
        cfg.optimizer.params.layers = ["backbone.net.p*_embed", "backbone.net.blocks.0", "backbone.net.blocks.1"]
    cfg.model.proposal_generator.update(pre_nms_topk=(50, 50), post_nms_topk=(20, 20), batch_size_per_image=16)
    heads.update(num_classes=2, batch_size_per_image=8)
    for head in heads.get("box_heads", [heads.get("box_head")]):
        head.fc_dims = [16]
        head.conv_dims = [16] * len(head.conv_dims)
    for predictor in heads.get("box_predictors", [heads.get("box_predictor")]):
        predictor.input_shape.channels = 16
    # even an untrained model is to detect something
    (heads.box_predictors[0] if "box_predictors" in heads else heads.box_predictor).test_score_thresh = 0.0
    if name == "point_rend_r50":
        heads.mask_head.update(fc_dims=[16], point_dims=[16, 16])
    else:
        heads.mask_head.conv_dims = [16, 16]
    _use_tiny_set(cfg.dataloader, tiny_set)
    cfg.train.init_checkpoint = ""
    return cfg


def _use_tiny_set(dataloader, tiny_set):
    for loader in (dataloader.train, dataloader.test):
        loader.dataset.names = reference(tiny_set)
        loader.num_workers = 0
    dataloader.train.total_batch_size = 4
    for augmentation in (*dataloader.train.mapper.augmentations, dataloader.test.mapper.augmentations[0]):
        if "target_height" in augmentation:
            augmentation.update(target_height=64, target_width=64, min_scale=0.8)
        elif "crop_size" in augmentation:
            augmentation.crop_size = (64, 64)
        elif "short_edge_length" in augmentation:
            several = not isinstance(augmentation.short_edge_length, int)
            augmentation.update(short_edge_length=(48,) if several else 48, max_size=64)


@pytest.mark.parametrize(
    ("name", "overrides"),
    [*((name, []) for name in (*RESNETS, *CONVNEXTS, "mask_rcnn_vitdet_b")), (RESNETS[0], [FINER])],
)
def test_a_step_trains_all_of_the_heads_and_the_model_detects_with_masks(tiny_set, name, overrides):
    cfg = shrunk(name, tiny_set, *overrides)
    assert check_experiment(cfg, world_size=1) == []
    model = experiment.build_model(cfg, "cpu").train()
    optimizer = experiment.build_optimizer(cfg, model)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    with EventStorage():
        losses = model(next(instantiate(cfg.dataloader.train).batches(start_iteration=0)))
    sum(losses.values()).backward()
    # 3 stages, or 1
    stages = {loss for loss in losses if loss.startswith("loss_cls")}
    assert len(stages) == (3 if "cascade" in name else 1)
    assert ("loss_mask_point" in losses) == ("point_rend" in name)
    assert all(torch.isfinite(loss) and loss > 0 for name, loss in losses.items() if "box_reg" not in name)
    for group in optimizer.param_groups:
        group["lr"] = 0.01
    optimizer.step()
    heads = [name for name in before if name.startswith("roi_heads.") and before[name].ndim > 1]
    still = [name for name in heads if torch.equal(before[name], dict(model.named_parameters())[name])]
    assert heads and not [name for name in still if "bbox_pred" not in name]
    image = next(iter(instantiate(cfg.dataloader.test)))
    with torch.no_grad():
        (encoded,) = encoding_masks(model.eval())(image)
        (found,) = model.inference(image, do_postprocess=False)
    size = {"point_rend_r50": 224}.get(name, 56 if overrides else 28)
    masks = found.pred_masks.tensor if isinstance(found.pred_masks, ROIMasks) else found.pred_masks
    assert len(found) and masks.shape == (len(found), 1, size, size)
    assert encoded["instances"].pred_masks.size == (48, 64)


def shapes(model):
    return {name: tuple(value.shape) for name, value in model.state_dict().items() if "num_batches" not in name}


def ours(name, *overrides):
    cfg = get_config(f"xray/{name}.py", ["model.roi_heads.num_classes=80", *overrides])
    return shapes(instantiate(cfg.model))


def published(name, **changes):
    """detectron2's own model."""
    cfg = model_zoo.get_config(name)
    for key, value in changes.items():
        cfg.model.backbone.net[key] = value
    return shapes(instantiate(cfg.model))


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("cascade_mask_rcnn_r50", "common/models/cascade_rcnn.py"),
        ("mask_rcnn_r50_lsj", "new_baselines/mask_rcnn_R_50_FPN_400ep_LSJ.py"),
    ],
)
def test_weights_have_the_names_and_shapes_of_the_published_ones(name, theirs):
    with torch.device("meta"):
        assert ours(name) == published(theirs)


def test_vitdets_weights_have_the_names_and_shapes_of_the_published_ones():
    small = {"depth": 3, "window_block_indexes": [0, 1]}  # of whose blocks there are two kinds
    overrides = ["model.backbone.net.depth=3", "model.backbone.net.window_block_indexes=[0,1]"]
    assert ours("mask_rcnn_vitdet_b", *overrides) == published("common/models/mask_rcnn_vitdet.py", **small)


def test_point_rends_weights_have_the_names_and_shapes_of_the_published_ones():
    cfg = get_cfg()
    add_pointrend_config(cfg)
    cfg.merge_from_file(model_zoo.get_config_file("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml"))
    cfg.MODEL.DEVICE = "cpu"
    mask_head = cfg.MODEL.ROI_MASK_HEAD
    mask_head.NAME, mask_head.POOLER_TYPE, mask_head.POINT_HEAD_ON = "PointRendMaskHead", "", True
    theirs = shapes(build_model(cfg))
    assert ours("point_rend_r50") == {name: shape for name, shape in theirs.items() if "cell_anchors" not in name}


def test_cascades_and_point_rend_start_from_the_rows_of_equal_names(tiny_set, tmp_path):
    knife = MetadataCatalog.get("coco_2017_train").thing_classes.index("knife")
    for name in ("cascade_mask_rcnn_r50", "point_rend_r50"):
        cfg = shrunk(name, tiny_set)
        larger = shrunk(name, tiny_set)
        larger.model.roi_heads.num_classes = 80
        there = instantiate(larger.model).state_dict()
        torch.save({"model": there}, tmp_path / "coco.pth")
        cfg.train.init_checkpoint = str(tmp_path / "coco.pth")
        model = instantiate(cfg.model)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        checkpointer = Checkpointer(model)
        checkpointer.class_names = ["gun", "knife"]
        experiment.load_initial_weights(cfg, checkpointer)
        after, head = model.state_dict(), "roi_heads.mask_head"
        if name == "point_rend_r50":
            coarse, points = f"{head}.coarse_head.prediction.weight", f"{head}.point_head.predictor.weight"
            assert torch.equal(after[coarse][49:], there[coarse][49 * knife :][:49])
            assert torch.equal(after[coarse][:49], before[coarse][:49])
            # the last inputs of each of its layers are coarse masks of the classes
            assert torch.equal(after[points][1, :16], there[points][knife, :16])
            assert torch.equal(after[points][1, 17], there[points][knife, 16 + knife])
            assert torch.equal(after[points][:, 16], before[points][:, 16])
            assert torch.equal(after[points][0], before[points][0])
        else:
            for stage in range(3):
                weights = f"roi_heads.box_predictor.{stage}.cls_score.weight"
                assert torch.equal(after[weights], torch.stack([before[weights][0], *there[weights][[knife, 80]]]))
