"""Sparse R-CNN that starts from one of other classes keeps the rows of those with equal names, in each stage."""

import pytest
import torch
from detectron2.config import instantiate
from detectron2.data import MetadataCatalog

from xray_lazy.config import get_config
from xray_lazy.engine.checkpoint import Checkpointer
from xray_lazy.engine.experiment import load_initial_weights

COCO = MetadataCatalog.get("coco_2017_train").thing_classes
CLASSES = ["gun", "knife", "scissors", "battery", "bottle"]
SOURCES = [None, COCO.index("knife"), COCO.index("scissors"), None, COCO.index("bottle")]
SOFTMAX = "model.classification={_target_: sparse_rcnn.classification.SoftmaxClassification, num_classes: 5}"


@pytest.mark.parametrize(
    ("name", "overrides", "layers"),
    [
        (
            "sparse_rcnn_tiny_mask_demo",
            [],
            ["head.head_series.{}.class_logits", "mask_head.mask_series.{}.mask_logits"],
        ),
        ("sparse_rcnn_tiny_demo", [SOFTMAX], ["head.head_series.{}.class_logits"]),
        ("sparse_rcnn_tiny_image_proposals_demo", [], ["init_proposal_boxes.class_logits"]),
    ],
)
def test_rows_of_equal_names_and_no_object_are_those_of_the_checkpoint(tmp_path, name, overrides, layers):
    cfg = get_config(f"projects/sparse_rcnn/{name}.py", overrides)
    for key in ("model.num_classes", *(["model.classification.num_classes"] if overrides else [])):
        overrides = [*overrides, f"++{key}=80"]
    there = instantiate(get_config(f"projects/sparse_rcnn/{name}.py", overrides).model).state_dict()
    torch.save({"model": there}, tmp_path / "coco.pth")
    model = instantiate(cfg.model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    cfg.train.init_checkpoint = str(tmp_path / "coco.pth")
    checkpointer = Checkpointer(model)
    checkpointer.class_names = CLASSES
    load_initial_weights(cfg, checkpointer)
    after = model.state_dict()
    stages = range(len(model.head.head_series))
    weights = {f"{layer.format(stage)}.{part}" for layer in layers for stage in stages for part in ("weight", "bias")}
    for weight in weights:
        for place, source in enumerate(SOURCES):
            wanted = before[weight][place] if source is None else there[weight][source]
            assert torch.equal(after[weight][place], wanted)
        if len(after[weight]) == 6:
            assert torch.equal(after[weight][5], there[weight][80])
    assert all(torch.equal(value, there[name]) for name, value in after.items() if value.shape == there[name].shape)
