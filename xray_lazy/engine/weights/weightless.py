"""Build a part of a config for its structure alone, without memory for weights where that is possible."""

from typing import Any

import torch
from detectron2.config import instantiate


def build_weightless(node: Any) -> Any:
    """What a node describes, with meta tensors; the state of random numbers stays as it is.

    Some classes look at values while they are built, which meta tensors have not: what has one is built as usual.
    """
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                return instantiate(node)
        except Exception:
            return instantiate(node)
