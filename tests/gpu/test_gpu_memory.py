"""The memory of a GPU: what fits is found, what doesn't fit is told, and training does not grow."""

import gc

import pytest
import torch
from detectron2.engine.train_loop import HookBase

from tests.gpu.experiments import EXPERIMENTS, quiet
from xray_lazy.config import load_config
from xray_lazy.engine.run import RunOptions, run
from xray_lazy.engine.searches.batch_size_search import find_batch_size
from xray_lazy.errors import RunFailure

pytestmark = pytest.mark.usefixtures("needs_cuda")
MASK_RCNN = EXPERIMENTS["mask_rcnn"]


@pytest.fixture
def little_memory():
    """The process may have a GiB of the GPU."""
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(2**30 / torch.cuda.get_device_properties(0).total_memory)
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.empty_cache()


class WantsMuch(HookBase):
    def before_step(self):
        torch.empty(2**32, dtype=torch.uint8, device="cuda")


class MemoryPerStep(HookBase):
    allocated: list[int] = []  # noqa: RUF012 - the test reads it from the class, which the config builds

    def after_step(self):
        self.allocated.append(torch.cuda.memory_allocated())


def test_too_little_memory_is_one_message_with_the_fix(little_memory, tmp_path):
    wants_much = "+hooks.much={_target_: tests.gpu.test_gpu_memory.WantsMuch}"
    with pytest.raises(RunFailure, match="out of memory") as error:
        run(RunOptions(MASK_RCNN, [*quiet(tmp_path / "run", "cuda"), wants_much]))
    assert "tools/find_batch_size.py" in error.value.fix


def test_the_largest_batch_is_found(tmp_path):
    cfg = load_config(MASK_RCNN, [*quiet(tmp_path / "run", "cuda")])
    try:
        assert find_batch_size(cfg, steps=1, limit=8) == 8
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def test_training_holds_no_more_memory_from_step_to_step(config, tmp_path):
    MemoryPerStep.allocated.clear()
    watch = "+hooks.memory={_target_: tests.gpu.test_gpu_memory.MemoryPerStep}"
    run(RunOptions(config, [*quiet(tmp_path / "run", "cuda"), "train.max_iter=40", "train.eval_period=0", watch]))
    early, late = (max(MemoryPerStep.allocated[part]) for part in (slice(8, 20), slice(28, 40)))
    assert late <= 1.05 * early
