"""mayaku's query detector with its smallest backbone, from scratch, with the settings that its schema recommends."""

import sys
from pathlib import Path

import torch
from mayaku import from_pretrained, train
from mayaku.config import MayakuConfig
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))
from job import Job, timed


def main(job: Job) -> None:
    """Train as many epochs as fit into the budget, then detect in the test set."""
    torch.set_num_threads(1)
    epochs = int(job.of_another_seed("epochs") or 0)
    # what a run takes beside its epochs is small beside one of them
    epochs = epochs or max(1, round(job.seconds / run(job, 1, "trial")))
    seconds = run(job, epochs, "training")
    folder = Path(job.folder) / "training"
    weights = sorted(folder.rglob("*.pth"), key=lambda path: path.stat().st_mtime)[-1]
    state = torch.load(weights, map_location="cpu", weights_only=False)
    state = state.get("model", state)
    size = sum(value.numel() for value in state.values() if hasattr(value, "numel"))
    job.finish(job.detect(detector(weights)), seconds=seconds, epochs=epochs, parameters=size)


def run(job: Job, epochs: int, name: str) -> float:
    """Train; processor time in seconds."""
    _, seconds = timed(
        lambda: train(
            MayakuConfig.model_validate(settings(job)),
            train_annotations=Path(job.train),
            train_images=Path(job.images),
            output_dir=Path(job.folder) / name,
            num_epochs=epochs,
            size_budget=round(job.image_size / 128) * 128 or 128,  # it takes no others
            device="cpu",
        )
    )
    return seconds


def settings(job: Job) -> dict:
    """The smallest ConvNeXt, dense query generation, two stages."""
    return {
        "input": {"resize_mode": "letterbox", "mosaic_prob": 0.5, "close_mosaic_frac": 0.2},
        "model": {
            "meta_architecture": "uniquery",
            "backbone": {"name": "convnext_atto", "freeze_at": 0},
            "fpn": {"out_channels": 128},
            "roi_heads": {"num_classes": len(job.categories())},
            "uniquery_head": {
                "num_proposals": 100,
                "hidden_dim": 128,
                "num_stages": 2,
                "dim_feedforward": 512,
                "uniquery_generator": True,
            },
        },
        "solver": {"seed": job.seed, "ims_per_batch": 8, "optimizer_name": "AdamW", "base_lr": 5e-4,
                   "weight_decay": 0.05, "clip_gradients_enabled": True},
        "test": {"eval_period": 0, "detections_per_image": 100},
        "dataloader": {"num_workers": 0},
    }  # fmt: skip


def detector(weights: Path):
    """As `Job.detect` calls it."""
    predictor = from_pretrained(weights, device="cpu")

    def detect(path: Path) -> tuple[list, list, list]:
        result = predictor(Image.open(path).convert("RGB"))
        return result.pred_boxes.tensor.tolist(), result.scores.tolist(), result.pred_classes.tolist()

    return detect


if __name__ == "__main__":
    main(Job.load(sys.argv[1]))
