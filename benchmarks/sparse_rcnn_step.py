"""Sparse R-CNN beside a straightforward implementation: steps, inference, cascade with loss, matching, peak memory.

`python -m benchmarks.sparse_rcnn_step --device cuda` runs it on a GPU, at the size of the COCO recipes, also with bf16.
"""

import argparse
import json
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import torch
from detectron2.config import instantiate
from detectron2.structures import Boxes, Instances
from sparse_rcnn.detector import SparseRCNN
from sparse_rcnn.targets import Targets
from torch import nn

from benchmarks.pairs import Comparison, compare, report
from benchmarks.straightforward_sparse_rcnn import match, straightforward
from xray_lazy.config import get_config

PROPOSALS = (100, 300)
MATCHED_IMAGES, MATCHED_OBJECTS, STAGES = 16, 20, 6
MEBI = 2**20


@dataclass(frozen=True)
class Work:
    """What is measured on a kind of device; heights and widths in pixels."""

    images: int
    height: int
    width: int
    pairs: int
    autocasts: tuple[bool, ...]


WORK = {"cpu": Work(1, 192, 320, 3, (False,)), "cuda": Work(8, 800, 1344, 9, (False, True))}


def compare_all(_folder: Path | None = None, device: str = "cpu") -> list[Comparison]:
    """Compare training steps, inference, cascade and loss alone, and matching.

    Raises:
        RuntimeError: the two models do not give the same losses or detections.
    """
    results = []
    for proposals in PROPOSALS:
        batch = random_batch(WORK[device], proposals)
        models = build_models(proposals, device)
        check_same(*models, random_batch(replace(WORK[device], images=2), proposals))
        for autocast in WORK[device].autocasts:
            results += _compare_models(*models, batch, proposals, autocast)
    return [*results, *(_compare_matching(proposals, device) for proposals in PROPOSALS)]


def random_batch(work: Work, seed: int) -> list[dict]:
    """Images of noise, the first one larger than the others, with 5 to 9 objects each."""
    random = torch.Generator().manual_seed(seed)
    batch = []
    for number in range(work.images):
        height = work.height - (16 if number else 0)
        objects = int(torch.randint(5, 10, (), generator=random))
        instances = Instances((height, work.width), gt_classes=torch.randint(0, 80, (objects,), generator=random))
        instances.gt_boxes = Boxes(_random_boxes((objects,), random) * torch.tensor([work.width, height] * 2))
        image = torch.randint(0, 256, (3, height, work.width), dtype=torch.uint8, generator=random)
        batch.append({"image": image, "instances": instances, "height": height, "width": work.width})
    return batch


def build_models(proposals: int, device: str) -> tuple[SparseRCNN, SparseRCNN]:
    """Ours and the straightforward one, with the same weights."""
    ours, theirs = build_model("ours", proposals, device), build_model("peer", proposals, device)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def build_model(kind: str, proposals: int, device: str) -> SparseRCNN:
    """The model "ours" or "peer"."""
    node = get_config("projects/sparse_rcnn/common/model.py", [f"model.num_proposals={proposals}"]).model
    torch.manual_seed(0)
    return spread_boxes(instantiate(node if kind == "ours" else straightforward(node))).to(device)


@torch.no_grad()
def spread_boxes(model: SparseRCNN) -> SparseRCNN:
    """Spread the proposal boxes over the image, as after a training."""
    weight = model.init_proposal_boxes.weight
    center, size = torch.rand(len(weight), 2) * 0.6 + 0.2, torch.rand(len(weight), 2) * 0.4 + 0.1
    weight.copy_(torch.cat([center, size], 1))
    return model


def check_same(ours: SparseRCNN, theirs: SparseRCNN, batch: list[dict]) -> None:
    """Refuse to time two different things: losses must agree to 1e-4, scores to 1e-3, boxes to a pixel."""
    with torch.no_grad():
        losses, their_losses = ours.train()(batch), theirs.train()(batch)
        detections, their_detections = ours.eval()(batch), theirs.eval()(batch)
    for name in losses.keys() | their_losses.keys():
        if not torch.isclose(losses[name], their_losses[name], rtol=1e-4):
            raise RuntimeError(f"{name} is {losses[name]}, the straightforward model's is {their_losses[name]}")
    for one, other in zip(detections, their_detections, strict=True):
        if not _same_detections(one["instances"], other["instances"]):
            raise RuntimeError("the detections differ from those of the straightforward model")


def training_step(model: nn.Module, batch: list[dict], autocast: bool = False) -> Callable[[], None]:
    """Forward and backward."""

    def step() -> None:
        model.train()
        model.zero_grad(set_to_none=True)
        with torch.autocast(model.device.type, torch.bfloat16, enabled=autocast):
            losses = model(batch)
        sum(losses.values()).backward()
        synchronize(model.device)

    return step


def inference(model: nn.Module, batch: list[dict], autocast: bool = False) -> Callable[[], None]:
    """Detections."""

    def detect() -> None:
        model.eval()
        with torch.no_grad(), torch.autocast(model.device.type, torch.bfloat16, enabled=autocast):
            model(batch)
        synchronize(model.device)

    return detect


def synchronize(device: torch.device | str) -> None:
    """Wait for a GPU; the CPU has always finished."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


class GivenFeatures(nn.Module):
    """In place of a backbone: the features that it gave, so that all time is the cascade's and the loss's."""

    def __init__(self, backbone: nn.Module, images: torch.Tensor) -> None:
        super().__init__()
        self.size_divisibility = backbone.size_divisibility
        with torch.no_grad():
            self.features = {name: values.requires_grad_() for name, values in backbone(images).items()}

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """The features, as leaves that get gradients."""
        for values in self.features.values():
            values.grad = None
        return self.features


def peak_memory(device: str) -> list[dict]:
    """Mebibytes that a training step adds at its peak, each in a process of its own."""
    rows = []
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as processes:
        for proposals in PROPOSALS:
            added = {k: processes.submit(_added_memory, k, proposals, device).result() for k in ("ours", "peer")}
            rows.append({"proposals": proposals} | added)
    return rows


def host_transfers(device: str) -> list[dict]:
    """Copies from a GPU to the host in a training step; each makes the host wait."""
    rows = []
    for proposals in PROPOSALS:
        batch, models = random_batch(WORK[device], proposals), build_models(proposals, device)
        rows.append({"proposals": proposals} | dict(zip(("ours", "peer"), map(_transfers(batch), models), strict=True)))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=list(WORK), default="cpu")
    parser.add_argument("--output", type=Path, default=Path("output/benchmarks_sparse_rcnn.json"))
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch finds no GPU here; --device cpu measures smaller work")
    report(compare_all(device=options.device), options.output)
    further = {"peak_memory_mib": peak_memory(options.device)}
    if options.device == "cuda":
        further |= {"device": torch.cuda.get_device_name(), "host_transfers": host_transfers(options.device)}
    print(json.dumps(further, indent=2))
    options.output.write_text(json.dumps(json.loads(options.output.read_text()) | further, indent=2) + "\n")


def _compare_models(
    ours: SparseRCNN, theirs: SparseRCNN, batch: list[dict], proposals: int, autocast: bool
) -> list[Comparison]:
    work = WORK[ours.device.type]
    name = f"Sparse R-CNN R50, {proposals} proposals, {work.width}x{work.height}{', bf16' if autocast else ''}"
    rows = [(f"training step, {name}", training_step), (f"inference, {name}", inference)]
    results = []

    def add(name: str, call: Callable) -> None:
        results.append(compare(f"{name} (straightforward)", f"batch of {work.images}", call(ours, batch, autocast),
                               call(theirs, batch, autocast), units=1, pairs=work.pairs))  # fmt: skip

    for row in rows:
        add(*row)
    backbones = ours.backbone, theirs.backbone
    given = GivenFeatures(ours.backbone, ours.preprocess(batch).tensor)
    ours.backbone = theirs.backbone = given
    add(f"training step of cascade and loss alone, {name}", training_step)
    ours.backbone, theirs.backbone = backbones
    return results


def _compare_matching(proposals: int, device: str) -> Comparison:
    random = torch.Generator().manual_seed(0)
    scale = torch.tensor([1344.0, 800.0, 1344.0, 800.0])
    logits = torch.randn(STAGES, MATCHED_IMAGES, proposals, 80, generator=random).to(device)
    boxes = (_random_boxes((STAGES, MATCHED_IMAGES, proposals), random) * scale).to(device)
    wanted = (_random_boxes((MATCHED_IMAGES, MATCHED_OBJECTS), random) * scale).to(device)
    classes = torch.randint(0, 80, (MATCHED_IMAGES, MATCHED_OBJECTS), generator=random).to(device)
    scale = scale.to(device)
    counts = [MATCHED_OBJECTS] * MATCHED_IMAGES
    targets = Targets(classes.flatten(), wanted.flatten(0, 1), counts, scale.expand(MATCHED_IMAGES, 4))
    by_image = [{"classes": c, "boxes": b, "scale": scale} for c, b in zip(classes, wanted, strict=True)]
    matcher = instantiate(get_config("projects/sparse_rcnn/common/model.py").model.criterion.matcher)

    def theirs() -> list:
        return [match(*stage, by_image) for stage in zip(logits, boxes, strict=True)]

    matches = matcher(logits, boxes, targets)
    for stage, pairs in enumerate(theirs()):
        rows = torch.cat([rows for rows, _ in pairs])
        columns = torch.cat([columns + image * MATCHED_OBJECTS for image, (_, columns) in enumerate(pairs)])
        same = torch.equal(matches.proposals[stage].cpu(), rows) and torch.equal(matches.objects[stage].cpu(), columns)
        if not same:
            raise RuntimeError("the matches differ from those of the straightforward matcher")
    name = f"matching, {STAGES} stages of {proposals} proposals with {MATCHED_OBJECTS} objects (straightforward)"
    unit = f"batch of {MATCHED_IMAGES}"
    return compare(name, unit, lambda: (matcher(logits, boxes, targets), synchronize(device)),
                   lambda: (theirs(), synchronize(device)), units=1, pairs=9)  # fmt: skip


def _random_boxes(shape: tuple[int, ...], random: torch.Generator) -> torch.Tensor:
    """Boxes `(*shape, 4)`, xyxy relative to the image."""
    corner = torch.rand(*shape, 2, generator=random) * 0.6
    return torch.cat([corner, corner + torch.rand(*shape, 2, generator=random) * 0.35 + 0.02], -1)


def _same_detections(ours: Instances, theirs: Instances) -> bool:
    """Whether each of our detections is one of theirs; equally good ones may have changed places.

    Rounding moves a box that is at a jump of ROIAlign: between two levels, or with a sample at the image's edge.
    """
    near_score = (ours.scores[:, None] - theirs.scores).abs() < 1e-3
    near_box = torch.cdist(ours.pred_boxes.tensor, theirs.pred_boxes.tensor, p=torch.inf) < 1
    same = near_score & near_box & (ours.pred_classes[:, None] == theirs.pred_classes)
    return len(ours) == len(theirs) and bool(same.any(1).all())


def _added_memory(kind: str, proposals: int, device: str) -> float:
    """What a training step adds at its peak to what is allocated on a GPU, or to the resident set of the process."""
    model = build_model(kind, proposals, device)
    step = training_step(model, random_batch(WORK[device], proposals))
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return round((torch.cuda.max_memory_allocated() - before) / MEBI, 1)
    before = _peak_of_process()
    step()
    return round(_peak_of_process() - before, 1)


def _peak_of_process() -> float:
    """Most mebibytes that were resident so far. Linux alone; `getrusage` would count those of the parent in."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmHWM"].split()[0]) / 1024


def _transfers(batch: list[dict]) -> Callable[[SparseRCNN], int]:
    def count(model: SparseRCNN) -> int:
        step = training_step(model, batch)
        step()
        activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
        with torch.profiler.profile(activities=activities) as profile:
            step()
        return sum(event.count for event in profile.key_averages() if "Memcpy DtoH" in event.key)

    return count


if __name__ == "__main__":
    main()
