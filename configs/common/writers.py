"""Where numbers go. Only the first process writes; each writer in its period, after evaluations and at the end."""

from detectron2.config import LazyCall as L

from xray_lazy.tracking.console import ConsoleWriter
from xray_lazy.tracking.json_lines import JsonWriter
from xray_lazy.tracking.logged_names import LoggedNames
from xray_lazy.tracking.tensorboard import TensorboardWriter
from xray_lazy.tracking.wandb import WandbWriter

names = L(LoggedNames)(
    table="${train.tracking.tables.${train.tracking.names}}",
    own="${train.tracking.own}",
    evaluated="${oc.select:dataloader.test.dataset.names,null}",
)

writers = dict(
    console=L(ConsoleWriter)(max_iter="${train.max_iter}", period="${train.log_period}"),
    # with the event storage's own names, and one value each: what detectron2's tools read
    json=L(JsonWriter)(path="${train.output_dir}/metrics.json", window_size=20, period="${train.log_period}"),
    tensorboard=L(TensorboardWriter)(
        log_dir="${train.output_dir}/tensorboard",
        names=names,
        raw="${train.tracking.raw}",
        period="${train.log_period}",
    ),
    wandb=L(WandbWriter)(
        project="${oc.env:WANDB_PROJECT,xray-lazy}",
        directory="${train.output_dir}",
        name=None,  # that of the output folder
        group=None,
        tags=[],
        notes=None,
        job_type=None,
        checkpoints="none",  # as model artifacts when training is done: "best", "final" or "best and final"
        timeout=30,  # seconds that W&B may take to start, and to send the rest at the end
        mode="auto",  # online when logged in, else offline; or "online", "offline", "disabled"
        names=names,
        raw="${train.tracking.raw}",
        axis="iteration",  # or "epoch", "images_seen"
        # in the summary beside the last value
        best={
            "**/AP**": "max",
            "**/AR*": "max",
            "**/P_D@**": "max",
            "**/P_FA@**": "min",
            "*loss*": "min",
            "val_loss*/*": "min",
        },
        period="${train.log_period}",
    ),
)
