"""The tables of logged names: what they say, and that no two numbers share a name, whatever the table."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from xray_lazy.config import check_config, get_config, load_config, save_config
from xray_lazy.engine.preflight.preflight import check_experiment
from xray_lazy.errors import UserError
from xray_lazy.tracking.logged_names import AXES, LoggedNames, names_of

CONFIG = get_config("xray/mask_rcnn_r50.py")
TABLES = {name: LoggedNames(rows) for name, rows in CONFIG.train.tracking.tables.items()}

GROUPED = {
    "smith/bbox_EMA/AP": "val/smith/bbox_EMA/AP",
    "smith/segm/AP-Knife/Blade": "val_classes/smith/segm/AP-Knife/Blade",
    "screening/P_D@5": "val/screening/P_D@5",
    "smith/screening/P_FA@90-gun": "val_classes/smith/screening/P_FA@90-gun",
    "media/smith/pictures_EMA": "val/smith/pictures_EMA",
    "media/screening_roc": "val/screening_roc",
    "total_loss": "train/total_loss",
    "loss_ce_0": "train/loss_ce_0",
    "raw/total_loss": "train_raw/total_loss",
    "gradient_norm": "train/gradient_norm",
    "skipped_steps": "train/skipped_steps",
    "hours_left": "train/hours_left",
    "fast_rcnn/cls_accuracy": "train/fast_rcnn/cls_accuracy",
    "stage1/roi_head/num_fg_samples": "train/stage1/roi_head/num_fg_samples",
    "bbox/AP": "val/bbox/AP",
    "segm/APs": "val/segm/APs",
    "bbox/AR100": "val/bbox/AR100",
    "bbox/AP-knife": "val_classes/bbox/AP-knife",
    "bbox_EMA/AP": "val/bbox_EMA/AP",
    "bbox_TTA/AP-knife": "val_classes/bbox_TTA/AP-knife",
    "detections/per_picture": "val/detections/per_picture",
    "val_loss/total_loss": "val/total_loss",
    "val_loss_EMA/loss_cls": "val_EMA/loss_cls",
    "media/pictures": "val/pictures",
    "media/precision_recall_EMA": "val/precision_recall_EMA",
    "lr": "lr",
    "lr/backbone": "lr/backbone",
    "time": "time/iteration",
    "data_time": "time/data",
    "images_per_second": "time/images_per_second",
    "eta_seconds": "time/eta_seconds",
    "max_memory_mb": "system/gpu_memory_mb",
    "epoch": "epoch",
    "images_seen": "images_seen",
}
MMDETECTION = {
    "smith/bbox_EMA/AP50": "val/smith/bbox_EMA_mAP_50",
    "smith/segm/AP-gun": "val/smith/segm_mAP_gun",
    "screening/P_D@5": "val/screening/P_D@5",
    "bbox/AP": "val/bbox_mAP",
    "bbox/AP50": "val/bbox_mAP_50",
    "bbox/AP75": "val/bbox_mAP_75",
    "bbox/APs": "val/bbox_mAP_s",
    "segm/APm": "val/segm_mAP_m",
    "segm/APl": "val/segm_mAP_l",
    "segm/AP-gun": "val/segm_mAP_gun",
    "bbox/AP-power bank/cable": "val/bbox_mAP_power bank/cable",
    "bbox_EMA/AP": "val/bbox_EMA_mAP",
    "bbox_TTA/AP50": "val/bbox_TTA_mAP_50",
    "bbox/AR100": "val/bbox_AR@100",
    "bbox/ARs": "val/bbox_AR_s",
    "total_loss": "train/loss",
    "loss_cls": "train/loss_cls",
    "loss_box_reg": "train/loss_bbox",
    "loss_rpn_loc": "train/loss_rpn_bbox",
    "loss_mask": "train/loss_mask",
    "val_loss/total_loss": "val/loss",
    "val_loss/loss_box_reg": "val/loss_bbox",
    "val_loss_EMA/total_loss": "val_EMA/total_loss",
    "loss_ce": "train/last_stage_loss_cls",
    "loss_giou_3": "train/stage3_loss_iou",
    "loss_bbox": "train/last_stage_loss_bbox",
    "fast_rcnn/cls_accuracy": "train/acc",
    "gradient_norm": "train/grad_norm",
    "raw/gradient_norm": "train_raw/grad_norm",
    "raw/total_loss": "train_raw/loss",
    "lr": "learning_rate",
    "lr/backbone": "learning_rate/backbone",
    "time": "train/time",
    "epoch": "epoch",
}
EVENTS = sorted({*GROUPED, *MMDETECTION})


@pytest.mark.parametrize(("table", "wanted"), [("grouped", GROUPED), ("mmdetection", MMDETECTION)])
def test_a_ready_table_names_what_training_logs(table, wanted):
    assert {event: TABLES[table].logged(event) for event in wanted} == wanted


def test_the_table_detectron2_leaves_names_and_values_as_they_are():
    assert [TABLES["detectron2"].logged(event) for event in EVENTS] == EVENTS
    assert {TABLES["detectron2"].scale(event) for event in EVENTS} == {1.0}


def test_mmdetection_has_ap_from_0_to_1_and_accuracy_in_percent():
    scales = {event: TABLES["mmdetection"].scale(event) for event in MMDETECTION}
    assert {event for event, scale in scales.items() if scale == 0.01} == {e for e in MMDETECTION if "/A" in e}
    assert scales["fast_rcnn/cls_accuracy"] == 100
    assert {TABLES["grouped"].scale(event) for event in EVENTS} == {1.0}


def test_a_number_is_found_by_its_event_name_and_by_its_logged_name():
    names = TABLES["mmdetection"]
    assert names.both("val/bbox_mAP") == names.both("bbox/AP") == ("bbox/AP", "val/bbox_mAP")
    assert names.both("val/segm_mAP_gun") == ("segm/AP-gun", "val/segm_mAP_gun")
    assert names.both("train/loss") == names.both("total_loss") == ("total_loss", "train/loss")
    assert TABLES["grouped"].both("time/iteration") == ("time", "time/iteration")
    assert names.event("bbox/AP") is names.event("lr") is None


@pytest.mark.parametrize(
    ("evaluated", "split"),
    [
        ("xray_smith_val", "val"),
        ("xray_smith_test", "test"),
        (["xray_smith_test", "xray_rapiscan_test"], "test"),
        (["xray_smith_test", "xray_rapiscan_val"], "val"),
        ({"name": "coco_test2017", "json_file": "a.json"}, "test"),
        ({"json_file": "labels/test.json", "image_root": "pictures"}, "test"),
        ("xray_latest_val", "val"),
        (None, "val"),
    ],
)
def test_evaluations_of_a_test_split_have_a_group_of_their_own(evaluated, split):
    rows = CONFIG.train.tracking.tables.grouped
    names = LoggedNames(rows, evaluated=evaluated)
    assert names.logged("bbox/AP") == f"{split}/bbox/AP"
    assert names.logged("bbox/AP-gun") == f"{split}_classes/bbox/AP-gun"


def test_where_two_numbers_would_share_a_name_the_other_one_is_logged_as_the_event():
    names = TABLES["mmdetection"]
    assert names.logged("bbox/APs") == "val/bbox_mAP_s"
    assert names.logged("bbox/AP-s") == "event/bbox/AP-s"  # a class called s
    assert names.scale("bbox/AP-s") == 1.0
    assert names.both("event/bbox/AP-s") == names.both("bbox/AP-s") == ("bbox/AP-s", "event/bbox/AP-s")


def test_an_own_row_counts_before_the_table_and_a_scale_is_its_third_entry(tmp_path):
    own = "train.tracking.own=[[detections/*, val/to_look_at_*, 0.5]]"
    names = names_of(get_config("xray/mask_rcnn_r50.py", [own]))
    assert (names.logged("detections/per_picture"), names.scale("detections/per_picture")) == (
        "val/to_look_at_per_picture",
        0.5,
    )
    assert names.logged("bbox/AP") == "val/bbox/AP"


def test_a_table_of_ones_own_and_a_saved_config_keep_the_order_of_the_rows(tmp_path):
    overrides = ["+train.tracking.tables.mine=[[*, a/*], [loss_*, b/*], [loss_cls, c]]", "train.tracking.names=mine"]
    save_config(get_config("xray/mask_rcnn_r50.py", overrides), tmp_path / "config.yaml")
    names = names_of(load_config(tmp_path / "config.yaml"))
    assert [names.logged(event) for event in ("lr", "loss_mask", "loss_cls")] == ["a/lr", "b/mask", "c"]


def test_a_train_node_of_ones_own_without_tables_is_a_fault_and_older_writers_need_none():
    cfg = get_config("xray/mask_rcnn_r50.py")
    del cfg.train.tracking
    (fault,) = check_experiment(cfg, world_size=1)
    assert str(fault).startswith("train.tracking: the config has no such node")
    for writer in (cfg.writers.tensorboard, cfg.writers.wandb):
        del writer.names, writer.raw
    assert not any("tracking" in str(fault) for fault in check_config(cfg))


def test_a_table_that_is_not_there_is_a_fault_that_names_the_near_one():
    cfg = get_config("xray/mask_rcnn_r50.py", ["train.tracking.names=mmdet"])
    faults = check_config(cfg)
    assert faults and all("train.tracking.tables.mmdetection" in fault.fix for fault in faults)


def test_a_config_without_tracking_logs_event_names():
    cfg = get_config("xray/mask_rcnn_r50.py")
    del cfg.train.tracking
    assert names_of(cfg).logged("bbox/AP") == "bbox/AP"


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (["*/AP", "val/mAP"], r"'\*/AP' is to be logged as 'val/mAP', which has other stars"),
        (["bbox/AP", "val/*"], "other stars"),
        (["*/AP-**", "val/**_*"], "other stars"),
        (["bbox/AP"], "write .pattern, name"),
        (["bbox/AP", "val/mAP", "percent"], "write .pattern, name"),
        (["bbox/AP", "val/mAP", 0], "write .pattern, name"),
        ("bbox/AP", "write .pattern, name"),
    ],
)
def test_a_row_that_is_none_is_refused(row, words):
    with pytest.raises(UserError, match=words):
        LoggedNames([row])


# few letters, so that patterns fit names and names collide
texts = st.text(st.sampled_from("ab_/"), max_size=4)
class_names = st.text(max_size=8) | st.sampled_from(["s", "50", "a/b", "gun_mAP_50", "EMA_mAP", "*", "{split}"])
numbers = texts | st.sampled_from([*EVENTS, *AXES, "event/a", "event/lr"])
numbers |= st.builds("{}/AP-{}".format, st.sampled_from(["bbox", "segm", "bbox_EMA"]), class_names)


@st.composite
def rows(draw):
    stars = draw(st.lists(st.sampled_from(["*", "**"]), max_size=2))
    between = texts.filter(len)  # two stars side by side would be one
    pattern, name = (draw(texts) + draw(between).join(stars) + draw(texts) for _ in range(2))
    return [pattern, draw(st.sampled_from(["", "event/"])) + name]


tables = st.lists(rows(), max_size=6) | st.sampled_from([list(t) for t in CONFIG.train.tracking.tables.values()])


@settings(max_examples=400, deadline=None)
@given(table=tables, events=st.lists(numbers, unique=True, max_size=30))
@example(table=[["*", "*/a"], ["a*b*", "*a*"]], events=["", "a", "ab", "aab", "aba", "abab"])
def test_no_two_numbers_ever_share_a_name_and_the_name_leads_back(table, events):
    names = LoggedNames(table)
    logged = {event: names.logged(event) for event in events}
    assert len(set(logged.values())) == len(events)
    assert {axis: names.logged(axis) for axis in AXES} == {axis: axis for axis in AXES}
    for event, name in logged.items():
        assert names.event(name) == event
        assert names.both(name) == (event, name)


@settings(max_examples=100, deadline=None)
@given(table=tables, events=st.lists(numbers, max_size=20))
def test_a_name_depends_on_table_and_event_alone(table, events):
    asked_before = LoggedNames(table)
    forwards = [asked_before.logged(event) for event in events]
    assert [LoggedNames(table).logged(event) for event in reversed(events)] == forwards[::-1]
