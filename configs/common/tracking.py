"""Under which names TensorBoard and W&B log the numbers of the event storage; docs/tracking.md has them as a list.

A row is a pattern, a name and, for some, a factor. `*` matches any text without slashes, `**` for any, `{split}`
becomes `val`, or `test` where the evaluated set is a test split. Of several rows that fit, the last one counts.
"""

# what detectron2's models count while they train
counts = [[f"{part}/*", f"train/{part}/*"] for part in ("fast_rcnn", "keypoint_head", "mask_rcnn", "roi_head", "rpn")]
counts += [["stage*/**", "train/stage*/**"]]

# what hooks.evaluation_media shows of an evaluation
shown = ("pictures", "worst_pictures", "confusion_matrix", "precision_recall", "screening_roc", "screening_froc")
media = [[f"media/{name}*", f"{{split}}/{name}*"] for name in shown]
media += [[f"media/*/{name}*", f"{{split}}/*/{name}*"] for name in shown]  # of one of several test sets

grouped = [
    ["*", "train/*"],  # losses, gradient_norm, and what a hook of one's own puts
    ["*/**", "{split}/*/**"],  # an evaluator's metrics: val/bbox/AP
    ["*/AP-**", "{split}_classes/*/AP-**"],  # apart, since 26 panels would hide the others
    ["*/*/AP-**", "{split}_classes/*/*/AP-**"],  # of one of several test sets
    ["*/P_*@*-**", "{split}_classes/*/P_*@*-**"],
    ["*/*/P_*@*-**", "{split}_classes/*/*/P_*@*-**"],
    ["val_loss/*", "val/*"],  # val/total_loss beside train/total_loss
    ["val_loss_*/*", "val_*/*"],  # val_EMA/total_loss
    ["raw/**", "train_raw/**"],
    *counts,
    *media,
    ["lr", "lr"],
    ["lr/*", "lr/*"],
    ["time", "time/iteration"],
    ["data_time", "time/data"],
    ["images_per_second", "time/images_per_second"],
    ["eta_seconds", "time/eta_seconds"],
    ["max_memory_mb", "system/gpu_memory_mb"],
]

# those of MMDetection 2 in W&B and TensorBoard, and its units: AP of 0..1, accuracy in percent
scored = [
    ["*/AP", "{split}/*_mAP", 0.01],
    ["*/AP-**", "{split}/*_mAP_**", 0.01],
    *([f"*/AP{kind}", f"{{split}}/*_mAP_{kind}", 0.01] for kind in ("50", "75", "s", "m", "l")),
    ["*/AR*", "{split}/*_AR@*", 0.01],
    *([f"*/AR{size}", f"{{split}}/*_AR_{size}", 0.01] for size in ("s", "m", "l")),
]
mmdetection = [
    ["*", "train/*"],
    ["*/**", "{split}/*/**"],
    ["val_loss/*", "val/*"],
    ["val_loss_*/*", "val_*/*"],
    ["raw/**", "train_raw/**"],
    *scored,
    *([f"*/{event}", name.replace("/", "/*/", 1), factor] for event, name, factor in scored),
    *counts,
    *media,
    ["fast_rcnn/cls_accuracy", "train/acc", 100],
    ["gradient_norm", "train/grad_norm"],
    ["raw/gradient_norm", "train_raw/grad_norm"],
    ["lr", "learning_rate"],
    ["lr/*", "learning_rate/*"],
    ["max_memory_mb", "train/memory"],
]
losses = {"total_loss": "loss", "loss_rpn_loc": "loss_rpn_bbox", "loss_box_reg": "loss_bbox"}
for events, names in (("*", "train/*"), ("raw/*", "train_raw/*"), ("val_loss/*", "val/*")):
    mmdetection += [[events.replace("*", ours), names.replace("*", theirs)] for ours, theirs in losses.items()]
# of Sparse R-CNN; its last stage, which has a number there, has none here
for ours, theirs in {"loss_ce": "loss_cls", "loss_bbox": "loss_bbox", "loss_giou": "loss_iou"}.items():
    mmdetection += [[ours, f"train/last_stage_{theirs}"], [f"{ours}_*", f"train/stage*_{theirs}"]]

tracking = dict(
    names="grouped",  # one of the tables
    own=[],  # more rows, of one's own
    tables=dict(grouped=grouped, mmdetection=mmdetection, detectron2=[]),  # detectron2: names as they are
    raw=["*loss*", "gradient_norm"],  # the last value beside the median; [] for none
)
