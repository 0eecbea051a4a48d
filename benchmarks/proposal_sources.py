"""What the sources of proposal boxes cost beside learned boxes: parameters, operations, time of the whole model."""

import argparse
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


# six stages refine boxes that don't know the image; those from the image need two
STAGES = {"box transformer": 6, "image proposals": 2, "image proposals, 3 stages": 3}


def compare_all(_folder: Path | None = None, device: str = "cpu") -> list[Comparison]:
    """Time of a training step and of inference; "ours" has the source, the peer learned boxes and six stages."""
    work = WORK[device]
    batch = random_batch(work, PROPOSALS)
    unit, size = f"batch of {work.images}", f"{work.width}x{work.height}"
    learned = build_model("learned boxes", device)
    results = []
    for source in STAGES:
        model = build_model(source, device)
        results += [
            compare(f"{name} with {source}, {PROPOSALS} proposals, {size} (learned boxes)", unit,
                    call(model, batch), call(learned, batch), units=1, pairs=work.pairs)
            for name, call in (("training step", training_step), ("inference", inference))
        ]  # fmt: skip
    return results


def build_model(source: str, device: str) -> SparseRCNN:
    """Sparse R-CNN R50 whose boxes come from a source, "learned boxes" or one of `STAGES`; untrained."""
    cfg = get_config("projects/sparse_rcnn/common/model.py", [f"model.num_proposals={PROPOSALS}"])
    if source in STAGES:
        sources = get_config("projects/sparse_rcnn/common/proposal_boxes.py")
        cfg.model.init_proposal_boxes = sources["_".join(source.partition(",")[0].split())]
        cfg.model.head.num_stages = STAGES[source]
        if source.startswith("image"):
            cfg.model.init_proposal_boxes.feature_level = [1, 2, 3]  # as in the config
    torch.manual_seed(0)
    return instantiate(cfg.model).to(device)


def count(device: str) -> list[dict]:
    """Millions of parameters, and 10^9 operations (a multiplication and an addition are two) for one image."""
    height, width = COCO_SIZE
    image = [{"image": torch.zeros(3, height, width), "height": height, "width": width}]
    rows = []
    for source in ("learned boxes", *STAGES):
        model = build_model(source, device)
        row = {"boxes": source, "parameters_m": round(_parameters(model) / 1e6, 2)}
        row["of_their_source_m"] = round(_parameters(model.init_proposal_boxes) / 1e6, 4)
        row["gflop"] = round(_operations(model, image) / 1e9, 1)
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=list(WORK), default="cpu")
    parser.add_argument("--output", type=Path, default=Path("output/benchmarks_proposal_sources.json"))
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
