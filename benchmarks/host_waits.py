"""How often a training step makes the host wait for the GPU, and where; counted on a machine without one.

    python -m benchmarks.host_waits                                  # the demo's Mask R-CNN and Sparse R-CNN
    python -m benchmarks.host_waits --sites 40 --configs xray/mask_rcnn_r18_demo.py

The model is on a stand-in device whose numbers are the CPU's, while torch and the models' own code take it for another
device. So what is counted would be a wait for a GPU, by these rules, which are those of torch's CUDA backend: a value
that Python reads; an operator whose output's size depends on values (nonzero, boolean indices, unique, nms); any copy
between host and device without `non_blocking=True`, also of indices and of `torch.tensor(..., device=...)`.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from detectron2.engine import SimpleTrainer
from detectron2.utils.events import EventStorage
from omegaconf import DictConfig
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from benchmarks.made_images import make_image
from benchmarks.straightforward_sparse_rcnn import straightforward
from benchmarks.training_step import plain_detectron2
from xray_lazy.config import get_config
from xray_lazy.engine.experiment import build_model, build_optimizer, build_trainer

CONFIGS = ("xray/mask_rcnn_r18_demo.py", "projects/sparse_rcnn/sparse_rcnn_tiny_demo.py")
DEVICE = "standin"
SIZE, IMAGES, OBJECTS = (144, 240), 2, 8
# their results are numbers in Python, or of a size that only values tell
READERS = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive", "equal"}
READERS |= {"bincount", "nms"}
PACKAGES = ("torch", "torchvision")  # a wait is that of who called these


def main() -> None:
    from tabulate import tabulate

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configs", nargs="+", default=CONFIGS)
    parser.add_argument("--sites", type=int, default=12, help="listed for each loop (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("output/host_waits.json"))
    options = parser.parse_args()
    table, results = [], []
    for config in options.configs:
        for loop, count in (("detectron2", their_waits), ("ours", our_waits)):
            sites = count(config)
            results.append({"config": config, "loop": loop, "waits": sites.total(), "sites": dict(sites.most_common())})
            print(f"\n{config}, {loop}: {sites.total()} waits in a step of {IMAGES} images")
            print(tabulate(((n, site) for site, n in sites.most_common(options.sites)), tablefmt="plain"), flush=True)
            table.append((config, loop, sites.total()))
    print("\n" + tabulate(table, headers=("config", "loop", "waits per step")))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(results, indent=2) + "\n")


def our_waits(config: str) -> Counter[str]:
    """Waits of a step of our trainer, by place in the code."""
    cfg = _configured(config)
    with stand_in_device() as waits:
        trainer = build_trainer(cfg, build_model(cfg, DEVICE), DEVICE)
        trainer.loader = _MadeBatches()
        trainer.train(0, 1)  # makes the optimizer's buffers
        waits.clear()
        trainer.train(1, 2)
        return waits.copy()


def their_waits(config: str) -> Counter[str]:
    """Waits of a step of detectron2's loop with the same model of its own parts."""
    cfg = _configured(config)
    cfg.model = straightforward(cfg.model) if "criterion" in cfg.model else plain_detectron2(cfg).model
    with stand_in_device() as waits:
        model = build_model(cfg, DEVICE)
        trainer = SimpleTrainer(model, _MadeBatches().batches(0), build_optimizer(cfg, model))
        with EventStorage(0) as trainer.storage:
            trainer.iter = 0
            trainer.run_step()
            waits.clear()
            trainer.run_step()
        return waits.copy()


@contextmanager
def stand_in_device() -> Iterator[Counter[str]]:
    """Tensors may be on the device `standin`; gives the waits for it, by place in the code."""
    if not hasattr(torch, DEVICE):
        backend_registration._setup_privateuseone_for_python_backend(DEVICE, _Backend())
    overwrite = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)  # parameters become tensors of the other kind
    torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device=...) is a copy that the mode sees
    try:
        with _Device() as device:
            yield device.waits
    finally:
        torch._C._set_only_lift_cpu_tensors(False)
        torch.__future__.set_overwrite_module_params_on_conversion(overwrite)


class _MadeBatches:
    """The same batch at each iteration."""

    total_batch_size = epoch_length = IMAGES
    dataset = ()

    def batches(self, start: int, images_seen: int = 0) -> Iterator[list[dict]]:
        torch.manual_seed(0)
        batch = [make_image(SIZE, OBJECTS, 2) for _ in range(IMAGES)]
        while True:
            yield [dict(sample) for sample in batch]


class _Backend(backend_registration._DummyBackendModule):
    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]


class _OnDevice(torch.Tensor):
    """A tensor that says it is on the device; `numbers` are on the CPU."""

    @staticmethod
    def __new__(cls, numbers: torch.Tensor) -> "_OnDevice":
        layout = {"strides": numbers.stride(), "storage_offset": numbers.storage_offset(), "dtype": numbers.dtype}
        return torch.Tensor._make_wrapper_subclass(cls, numbers.size(), device=f"{DEVICE}:0", **layout)

    def __init__(self, numbers: torch.Tensor):
        self.numbers = numbers

    __torch_function__ = torch._C._disabled_torch_function_impl

    def tolist(self) -> Any:
        return self.cpu().tolist()  # torch's own refuses tensors of other kinds

    @classmethod
    def __torch_dispatch__(cls, operator: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        return _compute(operator, args, kwargs or {})  # in a thread of the backward pass, which has no mode


class _Device(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.waits: Counter[str] = Counter()

    def __torch_dispatch__(self, operator: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if not _is_on_device(operator, args, kwargs) and _OnDevice not in types:
            return operator(*args, **kwargs)
        for _ in range(_waits(operator, args, kwargs)):
            self.waits[_place()] += 1
        return _compute(operator, args, kwargs)


def _compute(operator: Callable, args: tuple, kwargs: dict) -> Any:
    on_device = _is_on_device(operator, args, kwargs)
    args, kwargs = tree_map_only(_OnDevice, lambda tensor: tensor.numbers, (args, kwargs))
    result = operator(*args, **({**kwargs, "device": "cpu"} if kwargs.get("device") else kwargs))
    return tree_map_only(torch.Tensor, _OnDevice, result) if on_device else result


def _is_on_device(operator: Any, args: tuple, kwargs: dict) -> bool:
    """Whether an operator's result is on the device."""
    if kwargs.get("device") is not None:
        return torch.device(kwargs["device"]).type == DEVICE
    if operator.overloadpacket is torch.ops.aten.copy_:
        return isinstance(args[0], _OnDevice)
    return any(isinstance(value, _OnDevice) for value in tree_leaves((args, kwargs)))


def _waits(operator: Any, args: tuple, kwargs: dict) -> int:
    name = operator.overloadpacket.__name__
    if name in READERS:
        return 1
    if name == "repeat_interleave":
        return kwargs.get("output_size") is None
    if name in ("_to_copy", "copy_"):
        source = args[1] if name == "copy_" else args[0]
        blocking = not (kwargs.get("non_blocking") or (name == "copy_" and len(args) > 2 and args[2]))
        return blocking and isinstance(source, _OnDevice) != _is_on_device(operator, args, kwargs)
    if name in ("index", "index_put", "index_put_", "_index_put_impl_"):
        indices = [index for index in args[1] if index is not None]
        masks = sum(index.dtype in (torch.bool, torch.uint8) for index in indices)
        copies = sum(not isinstance(index, _OnDevice) for index in indices)
        if name != "index" and args[2].dim() == 0:  # a number, which fills a mask, and which is copied to other places
            return copies if masks else copies + 1
        return masks + copies
    return 0


def _place() -> str:
    """The file, line and function that called torch."""
    frame = sys._getframe(2)
    while frame:
        package = frame.f_globals.get("__name__", "").partition(".")[0]
        if package not in PACKAGES and frame.f_code.co_filename != __file__:
            parts = Path(frame.f_code.co_filename).parts
            return f"{'/'.join(parts[-3:])}:{frame.f_lineno} {frame.f_code.co_name}"
        frame = frame.f_back
    return "backward pass"


def _configured(config: str) -> DictConfig:
    cfg = get_config(config)
    cfg.train.output_dir, cfg.dataloader.train.dataset = "output/unused", [{"file_name": "made", "annotations": []}]
    cfg.dataloader.train.update(num_workers=0, total_batch_size=1)
    cfg.hooks, cfg.writers = {}, {}
    return cfg


if __name__ == "__main__":
    main()
