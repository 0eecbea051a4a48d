"""Where numbers go. Only the first process writes."""

from detectron2.config import LazyCall as L

from xray_lazy.tracking.console import ConsoleWriter
from xray_lazy.tracking.json_lines import JsonWriter
from xray_lazy.tracking.tensorboard import TensorboardWriter
from xray_lazy.tracking.wandb import WandbWriter

writers = dict(
    console=L(ConsoleWriter)(max_iter="${train.max_iter}"),
    json=L(JsonWriter)(path="${train.output_dir}/metrics.json", window_size=20),
    tensorboard=L(TensorboardWriter)(log_dir="${train.output_dir}/tensorboard"),
    wandb=L(WandbWriter)(
        project="xray-lazy",
        directory="${train.output_dir}",
        name=None,  # that of the output folder
        group=None,
        tags=[],
        notes=None,
        mode="auto",  # online when logged in, else offline; or "online", "offline", "disabled"
    ),
)
