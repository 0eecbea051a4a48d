"""The real trainer with real hooks on a model of a few weights: a run takes milliseconds."""

import contextlib
from pathlib import Path

import torch
from detectron2.engine.train_loop import HookBase
from detectron2.layers import NaiveSyncBatchNorm
from detectron2.utils import comm
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from xray_lazy.engine.checkpoint import Checkpointer
from xray_lazy.engine.precision import Precision
from xray_lazy.engine.trainer import Trainer

BATCH = 4


class SmallModel(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.norm = NaiveSyncBatchNorm(3)
        self.layer = nn.Linear(3, 2)

    def forward(self, batch):
        inputs, targets = (torch.stack([sample[key] for sample in batch]) for key in ("input", "target"))
        normed = self.norm(inputs[..., None, None]).flatten(1)
        return {"loss": (self.layer(normed) - targets).square().mean()}


class RandomBatches:
    """The same batch at the same iteration, of which each process has its share."""

    total_batch_size = BATCH

    def batches(self, start, images_seen):
        share = slice(comm.get_rank(), None, comm.get_world_size())
        return (self._batch(iteration)[share] for iteration in range(start, 1000))

    def _batch(self, iteration):
        random = torch.Generator().manual_seed(iteration)
        sizes = {"input": 3, "target": 2}
        return [
            {key: 1 + torch.randn(size, generator=random) for key, size in sizes.items()}
            | {"file_name": f"{iteration}_{number}.png"}
            for number in range(BATCH)
        ]


class ScriptedEvaluation:
    """AP by iteration as a test wants it, with the folder that an evaluation leaves."""

    def __init__(self, folder, values):
        self.folder, self.values = Path(folder), values

    def dataset_of(self, metric):
        return "small"

    def __call__(self, model, iteration, suffix=""):
        (self.folder / "evaluation" / "small" / f"iter_{iteration}{suffix}").mkdir(parents=True, exist_ok=True)
        return {f"bbox{suffix}": {"AP": self.values[iteration]}}


class KeepWeights(HookBase):
    """The weights after each step, in `after`."""

    def __init__(self):
        self.after = []

    def after_step(self):
        self.after.append({name: value.clone() for name, value in self.trainer.bare_model.state_dict().items()})


def train_small(
    folder, hooks, iterations, stop_at=None, resume=False, values=(), model=None, precision=None, later=False, **options
):
    """Train to `iterations`, or as one that is killed before the iteration `stop_at`; returns the trainer.

    With `later` as on a GPU, which leaves out steps by itself, and whose numbers are read one step later.
    """
    Path(folder).mkdir(exist_ok=True)
    model = model or SmallModel()
    parallel = DistributedDataParallel(model) if comm.get_world_size() > 1 else model
    trainer = Trainer(
        parallel,
        torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, fused=later or None),
        RandomBatches(),
        Precision("cpu", **(precision or {})),
        Checkpointer(model, folder, save_to_disk=comm.is_main_process()),
        hooks | ({"kill": _KillBefore(stop_at)} if stop_at else {}),
        writers={},
        evaluate=ScriptedEvaluation(folder, values),
        **options,
    )
    trainer.reads_later = later
    with contextlib.suppress(_Killed):
        trainer.train(trainer.checkpointer.resume() if resume else 0, iterations)
    return trainer


class _Killed(Exception):
    pass


class _KillBefore(HookBase):
    def __init__(self, iteration):
        self.iteration = iteration

    def before_step(self):
        if self.trainer.iter == self.iteration:
            raise _Killed
