"""torchvision's Faster R-CNN with a MobileNetV3 FPN, from scratch, as its reference scripts train detectors."""

import json
import sys
from pathlib import Path

import torch
from PIL import Image
from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_320_fpn
from torchvision.transforms.functional import to_tensor

sys.path.insert(0, str(Path(__file__).parents[1]))
from job import Job, iterations_within, timed

BATCH = 8


def main(job: Job) -> None:
    """SGD with cosine decay, horizontal flips."""
    torch.set_num_threads(1)
    records = load(job)
    iterations = int(job.of_another_seed("iterations") or 0)
    if not iterations:
        short, longer = (timed(lambda n=n: train(job, records, n))[1] for n in (3, 9))
        iterations, _ = iterations_within(job.seconds, short, 3, longer, 9)
    model, seconds = timed(lambda: train(job, records, iterations))
    size = sum(parameter.numel() for parameter in model.parameters())
    job.finish(job.detect(detector(model)), seconds=seconds, iterations=iterations, parameters=size)


def load(job: Job) -> list[tuple[Path, torch.Tensor, torch.Tensor]]:
    """Path, boxes `(N, 4)` xyxy and labels `(N,)` from 1 of each training image that has any."""
    document = json.loads(Path(job.train).read_text())
    label_of = {category["id"]: index + 1 for index, category in enumerate(job.categories())}
    found: dict[int, list] = {image["id"]: [] for image in document["images"]}
    for annotation in document["annotations"]:
        x, y, w, h = annotation["bbox"]
        found[annotation["image_id"]].append(([x, y, x + w, y + h], label_of[annotation["category_id"]]))
    return [
        (
            Path(job.images) / image["file_name"],
            torch.tensor([box for box, _ in found[image["id"]]], dtype=torch.float32),
            torch.tensor([label for _, label in found[image["id"]]]),
        )
        for image in document["images"]
        if found[image["id"]]
    ]


def build(job: Job) -> torch.nn.Module:
    """With batch norm that learns, since no weights are loaded."""
    return fasterrcnn_mobilenet_v3_large_320_fpn(
        weights=None,
        weights_backbone=None,
        num_classes=len(job.categories()) + 1,
        trainable_backbone_layers=6,
        min_size=job.image_size * 5 // 8,
        max_size=job.image_size,
    )


def train(job: Job, records: list, iterations: int) -> torch.nn.Module:
    """A new model, trained."""
    torch.manual_seed(job.seed)
    model = build(job).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.SequentialLR(
        optimizer,
        [
            torch.optim.lr_scheduler.LinearLR(optimizer, 0.01, total_iters=max(1, iterations // 20)),
            torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, iterations)),
        ],
        milestones=[max(1, iterations // 20)],
    )
    order = torch.Generator().manual_seed(job.seed)
    queue: list[int] = []
    for _ in range(iterations):
        while len(queue) < BATCH:
            queue += torch.randperm(len(records), generator=order).tolist()
        batch, queue = queue[:BATCH], queue[BATCH:]
        images, targets = zip(*(sample(*records[index], order) for index in batch), strict=True)
        loss = sum(model(list(images), list(targets)).values())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        schedule.step()
    return model


def sample(path: Path, boxes: torch.Tensor, labels: torch.Tensor, random: torch.Generator) -> tuple:
    """An image, mirrored every second time, and its target."""
    image = to_tensor(Image.open(path).convert("RGB"))
    if torch.rand((), generator=random) < 0.5:
        image = image.flip(-1)
        boxes = torch.stack([image.shape[-1] - boxes[:, 2], boxes[:, 1], image.shape[-1] - boxes[:, 0], boxes[:, 3]], 1)
    return image, {"boxes": boxes, "labels": labels}


def detector(model: torch.nn.Module):
    """As `Job.detect` calls it."""
    model.eval()
    model.roi_heads.score_thresh, model.roi_heads.detections_per_img = 0.001, 100

    @torch.no_grad()
    def detect(path: Path) -> tuple[list, list, list]:
        result = model([to_tensor(Image.open(path).convert("RGB"))])[0]
        return result["boxes"].tolist(), result["scores"].tolist(), (result["labels"] - 1).tolist()

    return detect


if __name__ == "__main__":
    main(Job.load(sys.argv[1]))
