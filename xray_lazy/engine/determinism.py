"""The same numbers from the same seed, to the last bit."""

import os
import random

import numpy as np
import torch

# reproducible workspaces of cuBLAS: https://docs.nvidia.com/cuda/cublas/#results-reproducibility
CUBLAS_WORKSPACE = ":4096:8"


def set_determinism(enabled: bool) -> None:
    """Choose deterministic kernels, or leave the choice to torch; once per process, before it computes on a GPU.

    Operators without a deterministic kernel warn once and run all the same: on GPUs, the backward pass of ROIAlign and
    of bilinear interpolation are of these. On the CPU all of them are deterministic for the same number of threads.
    """
    if enabled:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", CUBLAS_WORKSPACE)
    torch.use_deterministic_algorithms(enabled, warn_only=True)
    torch.backends.cudnn.deterministic = enabled
    if enabled:
        torch.backends.cudnn.benchmark = False  # it picks kernels by their speed, which differs from run to run


def seed_everything(seed: int) -> None:
    """Seed Python, numpy and torch, on the CPU and on GPUs."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    # `torch.manual_seed` formats the stack for each kind of device that is not in use: a millisecond in every step
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(seed)
