"""Class layers of a checkpoint with other classes: rows of equal names stay, exactly, and no others."""

import json
import pickle
import re

import pytest
import torch
from detectron2.config import instantiate
from detectron2.data import MetadataCatalog

from tests.engine.conftest import CONFIG
from xray_lazy.config import apply_overrides, load_config
from xray_lazy.engine.checkpoint import Checkpointer
from xray_lazy.engine.experiment import load_initial_weights
from xray_lazy.engine.preflight.preflight import check_experiment
from xray_lazy.errors import UserError

COCO = MetadataCatalog.get("coco_2017_train").thing_classes
KNIFE, SCISSORS = COCO.index("knife"), COCO.index("scissors")
PREDICTOR, MASKS = "roi_heads.box_predictor", "roi_heads.mask_head.predictor"


@pytest.fixture(scope="module")
def tiny():
    return load_config(CONFIG)


def write_weights(path, cfg, number_of_classes=80, seed=1, **content):
    """A file of weights of the config's model with so many classes, all of them random; returns these."""
    cfg = apply_overrides(cfg, [f"model.roi_heads.num_classes={number_of_classes}"])
    random = torch.Generator().manual_seed(seed)
    weights = {
        name: torch.rand(value.shape, generator=random) if value.is_floating_point() else value
        for name, value in instantiate(cfg.model).state_dict().items()
    }
    if path.suffix == ".pkl":
        arrays = {name: value.numpy() for name, value in weights.items()}
        path.write_bytes(pickle.dumps({"model": arrays, "__author__": "Detectron2 Model Zoo"}))
    else:
        torch.save({"model": weights, **content}, path)
    return weights


def start_from(path, cfg, classes, *overrides):
    """The weights of a model with these classes before and after loading."""
    overrides = [f"train.init_checkpoint={path}", f"model.roi_heads.num_classes={len(classes)}", *overrides]
    cfg = apply_overrides(cfg, overrides)
    model = instantiate(cfg.model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    checkpointer = Checkpointer(model)
    checkpointer.class_names = classes
    load_initial_weights(cfg, checkpointer)
    return before, model.state_dict()


def assert_rows(before, after, there, sources, number_there):
    """Each class has the rows of its source, or its own where that is None; the background has the checkpoint's."""
    for place, source in enumerate(sources):
        kind, from_place = (before, place) if source is None else (there, source)
        for part in ("weight", "bias"):
            for name, rows in ((f"{PREDICTOR}.cls_score", 1), (f"{PREDICTOR}.bbox_pred", 4), (MASKS, 1)):
                now = after[f"{name}.{part}"][place * rows : (place + 1) * rows]
                assert torch.equal(now, kind[f"{name}.{part}"][from_place * rows : (from_place + 1) * rows])
    for part in ("weight", "bias"):
        assert torch.equal(after[f"{PREDICTOR}.cls_score.{part}"][-1], there[f"{PREDICTOR}.cls_score.{part}"][-1])
    assert number_there == len(there[f"{PREDICTOR}.cls_score.bias"]) - 1


@pytest.mark.parametrize("suffix", [".pth", ".pkl"])
def test_classes_of_coco_keep_their_rows_and_the_log_names_kept_and_new_ones(tiny, tmp_path, caplog, suffix):
    there = write_weights(tmp_path / f"coco{suffix}", tiny)
    with caplog.at_level("INFO"):
        before, after = start_from(tmp_path / f"coco{suffix}", tiny, ["Gun", "Knife", "SCISSORS"])
    assert_rows(before, after, there, [None, KNIFE, SCISSORS], 80)
    (message,) = [message for message in caplog.messages if "class layers keep" in message]
    assert "Knife (its knife), SCISSORS (its scissors); new, as initialised: Gun" in message
    assert not [record for record in caplog.records if record.levelname == "WARNING"]
    rest = {name for name in after if "cls_score" not in name and "bbox_pred" not in name and MASKS not in name}
    assert all(torch.equal(after[name], there[name]) for name in rest)


def test_a_map_gives_a_class_the_rows_of_another_name_or_none(tiny, tmp_path):
    there = write_weights(tmp_path / "coco.pth", tiny)
    mapped = "train.class_map={Folding_Knife: knife, Kitchen_Knife: knife, scissors: null}"
    before, after = start_from(
        tmp_path / "coco.pth", tiny, ["Kitchen_Knife", "scissors", "cell-phone", "Folding_Knife"], mapped
    )
    assert_rows(before, after, there, [KNIFE, None, COCO.index("cell phone"), KNIFE], 80)


def test_without_a_map_all_class_layers_are_initialised(tiny, tmp_path, caplog):
    write_weights(tmp_path / "coco.pth", tiny)
    before, after = start_from(tmp_path / "coco.pth", tiny, ["gun", "knife"], "train.class_map=null")
    assert torch.equal(before[f"{PREDICTOR}.cls_score.weight"], after[f"{PREDICTOR}.cls_score.weight"])
    assert "re-initialised 6 weights" in caplog.text


def test_a_set_of_one_class_keeps_its_row(tiny, tmp_path):
    there = write_weights(tmp_path / "coco.pth", tiny)
    assert_rows(*start_from(tmp_path / "coco.pth", tiny, ["knife"]), there, [KNIFE], 80)


@pytest.mark.parametrize("told_by", ["file", "run.json", "config"])
def test_a_checkpoints_own_classes_are_those_of_its_file_or_run_or_the_config(tiny, tmp_path, told_by):
    classes = ["bottle", "gun", "knife", "battery"]
    there = write_weights(tmp_path / "a.pth", tiny, 4, **({"class_names": classes} if told_by == "file" else {}))
    if told_by == "run.json":
        (tmp_path / "run.json").write_text(json.dumps({"datasets": {"train": {"classes": classes}}}))
    given = [f"train.checkpoint_classes=[{','.join(classes)}]"] if told_by == "config" else []
    before, after = start_from(tmp_path / "a.pth", tiny, ["gun", "scissors"], *given)
    assert_rows(before, after, there, [1, None], 4)


@pytest.mark.parametrize("classes", [["knife", "gun", "bottle"], ["gun", "knife", "lighter"]])
def test_rows_follow_their_names_where_the_number_of_classes_is_the_same(tiny, tmp_path, classes):
    known = ["gun", "knife", "bottle"]
    there = write_weights(tmp_path / "a.pth", tiny, 3, class_names=known)
    sources = [known.index(name) if name in known else None for name in classes]
    assert_rows(*start_from(tmp_path / "a.pth", tiny, classes), there, sources, 3)


def test_as_many_classes_of_unknown_names_are_taken_as_they_are(tiny, tmp_path, caplog):
    there = write_weights(tmp_path / "a.pth", tiny, 3)
    with caplog.at_level("INFO"):
        _, after = start_from(tmp_path / "a.pth", tiny, ["gun", "knife", "bottle"])
    assert torch.equal(after[f"{PREDICTOR}.bbox_pred.weight"], there[f"{PREDICTOR}.bbox_pred.weight"])
    assert "class layers" not in caplog.text and "names are not known" not in caplog.text


def test_classes_of_unknown_names_are_told_how_to_be_kept(tiny, tmp_path, caplog):
    write_weights(tmp_path / "a.pth", tiny, 7)
    before, after = start_from(tmp_path / "a.pth", tiny, ["gun", "knife"])
    assert torch.equal(before[f"{MASKS}.weight"], after[f"{MASKS}.weight"])
    assert "7 classes whose names are not known" in caplog.text and "train.checkpoint_classes" in caplog.text


def test_a_backbone_alone_has_nothing_to_keep_and_a_map_for_it_is_warned_of(tiny, tmp_path, caplog):
    weights = write_weights(tmp_path / "a.pth", tiny)
    torch.save({n: value for n, value in weights.items() if n.startswith("backbone")}, tmp_path / "b.pth")
    start_from(tmp_path / "b.pth", tiny, ["gun", "knife"])
    assert "class" not in caplog.text
    start_from(tmp_path / "b.pth", tiny, ["gun", "knife"], "train.class_map={gun: knife}")
    assert "train.class_map has no effect: the checkpoint has no class layers" in caplog.text


def test_layers_that_classes_share_are_not_mistaken_for_those_of_one_class(tiny, tmp_path, caplog):
    shared = apply_overrides(tiny, ["+model.roi_heads.box_predictor.cls_agnostic_bbox_reg=True"])
    there = write_weights(tmp_path / "a.pth", shared)
    before, after = start_from(tmp_path / "a.pth", tiny, ["gun", "knife"])
    assert torch.equal(after[f"{PREDICTOR}.cls_score.weight"][1], there[f"{PREDICTOR}.cls_score.weight"][KNIFE])
    assert torch.equal(after[f"{PREDICTOR}.bbox_pred.weight"], before[f"{PREDICTOR}.bbox_pred.weight"])
    assert "bbox_pred.weight 4x16 -> 8x16" in caplog.text


@pytest.mark.parametrize(
    ("overrides", "key", "message", "fix"),
    [
        (["train.class_map={knive: knife}"], "train.class_map", "'knive' is no class of the data set", "knife"),
        (["train.class_map={gun: toothbrus}"], "train.class_map", "'toothbrus', for gun, is no class", "toothbrush"),
        (["train.checkpoint_classes=[a,b]"], "train.checkpoint_classes", "there are 2 names, but", "all of them"),
        (["train.checkpoint_classes=[a,b,a]"], "train.checkpoint_classes", "named more than once: a", "once"),
        (["train.checkpoint_classes=word"], "train.checkpoint_classes", "'word' is no list of names", "[word, ...]"),
        (["train.checkpoint_classes=0"], "train.checkpoint_classes", "0 is no list of names", "in the order"),
        (["++train.class_map=word"], "train.class_map", "'word' is no map of classes", "{gun: knife}"),
        (
            ["train.class_map={gun: [knife]}"],
            "train.class_map",
            "'knife'. is no class of the",
            "{gun: knife}",
        ),
    ],
)
def test_what_is_not_there_is_a_fault_of_the_key_before_training(tiny, tmp_path, overrides, key, message, fix):
    write_weights(tmp_path / "coco.pth", tiny)
    cfg = apply_overrides(tiny, [f"train.init_checkpoint={tmp_path}/coco.pth", *overrides])
    (fault,) = check_experiment(cfg, world_size=1)
    assert fault.key == key and re.search(message, fault.message) and fix in fault.fix
    with pytest.raises(UserError, match=message):
        start_from(tmp_path / "coco.pth", tiny, ["gun", "knife"], *overrides)


def test_what_is_saved_tells_its_classes_and_initial_random_numbers_stay(tiny, tmp_path):
    write_weights(tmp_path / "coco.pth", tiny)
    torch.manual_seed(7)
    expected = torch.rand(3)
    cfg = apply_overrides(tiny, [f"train.init_checkpoint={tmp_path}/coco.pth"])
    checkpointer = Checkpointer(instantiate(cfg.model), tmp_path / "run")
    checkpointer.class_names = ["gun", "knife"]
    (tmp_path / "run").mkdir()
    torch.manual_seed(7)
    load_initial_weights(cfg, checkpointer)
    assert torch.equal(torch.rand(3), expected)
    checkpointer.save("model_final")
    assert torch.load(tmp_path / "run" / "model_final.pth")["class_names"] == ["gun", "knife"]
