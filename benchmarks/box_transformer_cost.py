"""What the box transformer costs beside learned boxes: parameters, operations, time of the whole model."""

import argparse
import copy
import json
from pathlib import Path

import torch
from detectron2.config import instantiate
from sparse_rcnn.detector import SparseRCNN
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.pairs import Comparison, compare, report
from benchmarks.sparse_rcnn_step import WORK, inference, random_batch, training_step
from xray_lazy.config import get_config

PROPOSALS = 100
COCO_SIZE = (800, 1333)  # pixels; the usual image to count operations for


def compare_all(_folder: Path | None = None, device: str = "cpu") -> list[Comparison]:
    """Time of a training step and of inference; "ours" has the box transformer, the peer learned boxes."""
    work = WORK[device]
    batch = random_batch(work, PROPOSALS)
    transformer, learned = build_models(device)
    unit, size = f"batch of {work.images}", f"{work.width}x{work.height}"
    return [
        compare(f"{name} with the box transformer, {PROPOSALS} proposals, {size} (learned boxes)", unit,
                call(transformer, batch), call(learned, batch), units=1, pairs=work.pairs)
        for name, call in (("training step", training_step), ("inference", inference))
    ]  # fmt: skip


def build_models(device: str) -> tuple[SparseRCNN, SparseRCNN]:
    """Sparse R-CNN R50 with the box transformer and with learned boxes; untrained, so both start with equal boxes."""
    learned = get_config("projects/sparse_rcnn/common/model.py", [f"model.num_proposals={PROPOSALS}"])
    transformer = copy.deepcopy(learned)
    sources = get_config("projects/sparse_rcnn/common/proposal_boxes.py")
    transformer.model.init_proposal_boxes = sources.box_transformer
    torch.manual_seed(0)
    return instantiate(transformer.model).to(device), instantiate(learned.model).to(device)


def count(device: str) -> list[dict]:
    """Millions of parameters, and 10^9 operations (a multiplication and an addition are two) for one image."""
    height, width = COCO_SIZE
    image = [{"image": torch.zeros(3, height, width), "height": height, "width": width}]
    rows = []
    for name, model in zip(("box transformer", "learned boxes"), build_models(device), strict=True):
        row = {"boxes": name, "parameters_m": round(_parameters(model) / 1e6, 2)}
        row["of_their_source_m"] = round(_parameters(model.init_proposal_boxes) / 1e6, 4)
        row["gflop"] = round(_operations(model, image) / 1e9, 1)
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=list(WORK), default="cpu")
    parser.add_argument("--output", type=Path, default=Path("output/benchmarks_box_transformer.json"))
    options = parser.parse_args()
    report(compare_all(device=options.device), options.output)
    costs = {"size": COCO_SIZE, "counts": count(options.device)}
    print(json.dumps(costs, indent=2))
    options.output.write_text(json.dumps(json.loads(options.output.read_text()) | costs, indent=2) + "\n")


def _operations(model: nn.Module, batch: list[dict]) -> int:
    """By torch's FlopCounterMode: convolutions and matrix products. It does not look into fused attention."""
    model.eval().requires_grad_(False)
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            model(batch)
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
    return counter.get_total_flops()


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


if __name__ == "__main__":
    main()
