"""From the command to the end of the first iteration: our tool beside detectron2's LazyConfig training script.

python -m benchmarks.start_up plain CONFIG DATA    # the peer: what that script does, on one device
"""

import os
import subprocess
import sys
from pathlib import Path

from benchmarks.pairs import Comparison, compare

CONFIG = "configs/xray/mask_rcnn_r18_demo.py"
ROOT = Path(__file__).parent.parent


def leave_after_first_step():
    """A hook that ends the process where the first iteration is done."""
    from detectron2.engine.train_loop import HookBase

    class Leave(HookBase):
        def after_step(self) -> None:
            os._exit(0)

    return Leave()


def compare_all(folder: Path) -> list[Comparison]:
    from xray_lazy.data.synthetic.generate import generate_set

    generate_set(folder / "demo", "demo", {"train": 64, "val": 16, "test": 0}, classes=("gun", "knife"))
    environment = os.environ | {"XRAY_DATASETS": str(folder / "demo"), "PYTHONPATH": str(ROOT)}

    def run(*words: str) -> None:
        subprocess.run([sys.executable, *words], env=environment, cwd=folder, check=True, capture_output=True)

    def ours() -> None:
        hook = "+hooks.leave={_target_: benchmarks.start_up.leave_after_first_step}"
        overrides = ("model.roi_heads.num_classes=2", "train.output_dir=ours", "writers.wandb.mode=disabled", hook)
        run(str(ROOT / "tools/lazy_train.py"), "--config-file", str(ROOT / CONFIG), "--overwrite", *overrides)

    def theirs() -> None:
        run("-m", "benchmarks.start_up", "plain", str(ROOT / CONFIG), str(folder / "demo"))

    name = "from the command to the end of the first iteration (detectron2's LazyConfig script)"
    return [compare(name, "start", ours, theirs, units=1, pairs=5)]


def train_plainly(config_file: str, data: str) -> None:
    """The steps of detectron2's script: set-up, model, optimizer, loader, trainer with its hooks and writers."""
    from detectron2.checkpoint import DetectionCheckpointer
    from detectron2.config import LazyCall, LazyConfig, instantiate
    from detectron2.data import DatasetMapper, build_detection_train_loader, get_detection_dataset_dicts
    from detectron2.data.datasets import register_coco_instances
    from detectron2.engine import (
        AMPTrainer,
        SimpleTrainer,
        default_argument_parser,
        default_setup,
        default_writers,
        hooks,
    )
    from detectron2.solver import get_default_optimizer_params

    register_coco_instances("demo", {}, f"{data}/annotations/demo/train.json", f"{data}/images/demo/train")
    arguments = default_argument_parser().parse_args(["--config-file", config_file])
    cfg = LazyConfig.load(config_file)
    cfg.train.output_dir, cfg.train.amp.enabled, cfg.train.device = "theirs", False, "cpu"
    cfg.model.roi_heads.num_classes = 2
    default_setup(cfg, arguments)
    model = instantiate(cfg.model)
    cfg.optimizer.params = LazyCall(get_default_optimizer_params)(weight_decay_norm=0.0)
    cfg.optimizer.params.model = model
    optimizer = instantiate(cfg.optimizer)
    mapper = DatasetMapper(
        is_train=True,
        augmentations=[instantiate(augmentation) for augmentation in cfg.dataloader.train.mapper.augmentations],
        image_format="BGR",
        use_instance_mask=True,
        instance_mask_format="bitmask",
    )
    loader = build_detection_train_loader(
        dataset=get_detection_dataset_dicts(["demo"]), mapper=mapper, total_batch_size=4, num_workers=1
    )
    trainer = (AMPTrainer if cfg.train.amp.enabled else SimpleTrainer)(model, loader, optimizer)
    checkpointer = DetectionCheckpointer(model, cfg.train.output_dir, trainer=trainer)
    writers = default_writers(cfg.train.output_dir, cfg.train.max_iter)
    trainer.register_hooks(
        [
            hooks.IterationTimer(),
            hooks.LRScheduler(scheduler=instantiate(cfg.lr_multiplier)),
            hooks.PeriodicCheckpointer(checkpointer, period=cfg.train.checkpointer.period),
            hooks.PeriodicWriter(writers, period=cfg.train.log_period),
            leave_after_first_step(),
        ]
    )
    trainer.train(0, cfg.train.max_iter)


if __name__ == "__main__":
    train_plainly(*sys.argv[2:])
