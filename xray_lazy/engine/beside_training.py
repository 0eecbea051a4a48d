"""Run a model in the middle of training without a trace in what training does next."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from xray_lazy.engine.determinism import seed_everything
from xray_lazy.modeling.step_numbers import StepStorage


@contextmanager
def beside_training(model: nn.Module, seed: int = 0) -> Iterator[None]:
    """No gradients, and afterwards the random states, the event storage and the modes of all modules as they were.

    Args:
        model: on its device.
        seed: of all that is random inside, which so gives the same at every call.

    What the model puts into the event storage is dropped. Weights and buffers are the caller's to look after.
    """
    device = next(model.parameters()).device
    modes = [(module, module.training) for module in model.modules()]
    python_state, numpy_state = random.getstate(), np.random.get_state()
    # models seed their draws with the storage's iteration, and may draw images at iteration 0
    with torch.random.fork_rng([device] if device.type == "cuda" else []), StepStorage(1), torch.no_grad():
        try:
            seed_everything(seed)
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)
            for module, training in modes:
                module.training = training
