"""What a model costs on one image, part by part: parameters, FLOPs, activations and time."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from xray_lazy.analysis.results import SCHEMA, plain
from xray_lazy.engine.checkpoint_evaluation.run_config import choose_device
from xray_lazy.engine.preflight.unbuildable import build
from xray_lazy.engine.trained_model import load_model_config
from xray_lazy.errors import UserError
from xray_lazy.utils.atomic_file import write_json

DEFAULT_SIZE = (1333, 800)  # COCO's, for configs that resize nothing
REST = "(rest)"


@dataclass(frozen=True)
class PartCost:
    """One part of a model, with all that is inside of it.

    Attributes:
        name: of the module, such as `backbone.bottom_up`; REST for what no part does: preparing images, choosing and
            pasting detections.
        parameters, trainable: how many numbers.
        flops: of convolutions and matrix products; a multiplication and an addition are two.
        activations: numbers that these give out.
        seconds: of the fastest of the timed passes, which others on the machine disturb least.
    """

    name: str
    parameters: int
    trainable: int
    flops: int
    activations: int
    seconds: float


@dataclass(frozen=True)
class ModelCost:
    """A model on one image.

    Attributes:
        width, height: of the image as the network gets it.
        proposals: that the heads looked at; None where the model has no proposal generator.
        detections: that were given out.
        total: the whole model, timed without looking at its parts.
    """

    source: str
    model: str
    device: str
    threads: int
    width: int
    height: int
    proposals: int | None
    detections: int
    repeats: int
    total: PartCost
    parts: tuple[PartCost, ...]

    def as_json(self) -> dict[str, Any]:
        """As JSON has it."""
        return plain({"schema": SCHEMA, **asdict(self)})


def measure_source(
    source: str | Path,
    overrides: Sequence[str] = (),
    size: tuple[int, int] | None = None,
    device: str = "auto",
    repeats: int = 5,
    depth: int = 2,
) -> ModelCost:
    """Measure the model of a run or of a config, with random weights.

    Args:
        source: the output folder of a training, or a config file.
        size: (width, height); by default what the config's test mapper resizes to.
        depth, repeats: as `measure`.

    Raises:
        UserError: there is no such config, or it has faults.
    """
    source, device = Path(source), choose_device(device)
    cfg = load_model_config(source, overrides)
    width, height = size or input_size(cfg)
    logging.getLogger("torch.fx._symbolic_trace").setLevel(logging.ERROR)  # it warns of functions that detectron2 calls
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # so that random boxes that are empty are as many each time
        model = build("model", cfg.model).to(device)
    return measure(model, width, height, str(source), repeats, depth)


def measure(model: nn.Module, width: int, height: int, source: str = "", repeats: int = 5, depth: int = 2) -> ModelCost:
    """Measure a detectron2 model on a grey image; it is in evaluation mode afterwards.

    The heads get all that they can: thresholds on scores are 0 and those of NMS 1 meanwhile, so that proposals and
    detections are as many as the config allows, but for empty boxes, and the figures hold for the busiest image.

    Args:
        repeats: timed passes, after one that warms up.
        depth: of the module names among the parts: 1 gives `backbone`, 2 also `backbone.bottom_up`.
    """
    if repeats < 1 or depth < 1:
        raise UserError(f"{repeats} repeats and depth {depth} measure nothing", "give 1 or more of each")
    model.eval()
    device = next(model.parameters()).device
    channels = len(getattr(model, "pixel_mean", (0, 0, 0)))
    image = {"image": torch.full((channels, height, width), 128, dtype=torch.uint8), "height": height, "width": width}
    with torch.no_grad(), _full_load(model):
        operations, proposals, detections = _count(model, image)
        total = min([_seconds(lambda: model([image]), device) for _ in range(1 + repeats)][1:])
        passes = [_time_parts(model, image, device, depth + 1) for _ in range(repeats)]
    seconds = min(passes, key=lambda one: sum(one.values()))
    names = [name for name, _ in model.named_modules() if name and name.count(".") < depth]
    parts = [_part(name, model.get_submodule(name), operations, seconds) for name in names]
    parts = [part for part in parts if part.parameters or part.flops or part.seconds > 0]
    return ModelCost(
        source=source,
        model=type(model).__name__,
        device=str(device),
        threads=torch.get_num_threads(),
        width=width,
        height=height,
        proposals=proposals,
        detections=detections,
        repeats=repeats,
        total=_whole(model, operations, total),
        parts=(*parts, PartCost(REST, 0, 0, *operations[""], seconds[""])),
    )


def write_model_cost(cost: ModelCost, path: str | Path) -> None:
    """Write the figures as JSON."""
    write_json(path, cost.as_json(), indent=1)


def input_size(cfg: DictConfig) -> tuple[int, int]:
    """(width, height) of the largest image that the config's test mapper gives, lying."""
    for augmentation in OmegaConf.select(cfg, "dataloader.test.mapper.augmentations") or ():
        short, longest = (OmegaConf.select(augmentation, key) for key in ("short_edge_length", "max_size"))
        short = max(short) if OmegaConf.is_list(short) else short  # of several one is drawn for each image
        if isinstance(short, int) and isinstance(longest, int):
            return max(longest, short), short
    return DEFAULT_SIZE


@contextmanager
def _full_load(model: nn.Module) -> Iterator[None]:
    """Let detectron2's models keep as many proposals and detections as they may."""
    values = {"test_score_thresh": 0.0, "test_nms_thresh": 1.0, "nms_thresh": 1.0}
    before = [
        (module, name, getattr(module, name))
        for module in model.modules()
        for name in values
        if isinstance(getattr(module, name, None), int | float)
    ]
    for module, name, _ in before:
        setattr(module, name, values[name])
    try:
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)


class _OperationCounter(TorchDispatchMode):
    """Adds up FLOPs and numbers given out under the name that `part` gives."""

    def __init__(self, part: Callable[[], str]):
        super().__init__()
        self.part = part
        self.flops: Counter[str] = Counter()
        self.activations: Counter[str] = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        formula = flop_registry.get(function._overloadpacket)
        if formula is not None:
            self.flops[self.part()] += int(formula(*args, **(kwargs or {}), out_val=result))
            first = result[0] if isinstance(result, tuple) else result
            self.activations[self.part()] += first.numel()
        return result


@contextmanager
def _watched(model: nn.Module, depth: int | None, enter: Callable[[str], None], leave: Callable[[str], None]):
    """Call `enter` and `leave` with the name of each module that runs, down to a depth of names.

    Both must return None: torch would take anything else for what the module gets or gives.
    """
    handles = []
    for name, module in model.named_modules():
        if name and (depth is None or name.count(".") < depth):
            handles.append(module.register_forward_pre_hook(lambda *_, name=name: enter(name)))
            handles.append(module.register_forward_hook(lambda *_, name=name: leave(name)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _count(model: nn.Module, image: Mapping[str, Any]) -> tuple[dict[str, tuple[int, int]], int | None, int]:
    """(FLOPs, activations) that each module has by itself, "" for none of them; proposals; detections."""
    stack, proposals = [""], []
    counter = _OperationCounter(lambda: stack[-1])
    generator = getattr(model, "proposal_generator", None)
    handles = []
    if generator is not None:
        handles.append(generator.register_forward_hook(lambda _, __, found: proposals.append(len(found[0][0]))))

    def leave(_: str) -> None:
        stack.pop()

    try:
        with _watched(model, None, stack.append, leave), counter:
            found = model([image])
    finally:
        for handle in handles:
            handle.remove()
    names = ["", *(name for name, _ in model.named_modules() if name)]
    operations = {name: (counter.flops[name], counter.activations[name]) for name in names}
    return operations, proposals[0] if proposals else None, len(found[0]["instances"])


def _time_parts(model: nn.Module, image: Mapping[str, Any], device: torch.device, depth: int) -> dict[str, float]:
    """Seconds that each module takes by itself, without those inside of it that are watched, too."""
    seconds: Counter[str] = Counter()
    stack = [""]

    def now() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    def account() -> None:
        nonlocal last
        present = now()
        seconds[stack[-1]] += present - last
        last = present

    def enter(name: str) -> None:
        account()
        stack.append(name)

    def leave(_: str) -> None:
        account()
        stack.pop()

    last = now()
    with _watched(model, depth, enter, leave):
        model([image])
    account()
    return dict(seconds)


def _seconds(work: Callable[[], Any], device: torch.device) -> float:
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def _part(
    name: str,
    module: nn.Module,
    operations: Mapping[str, tuple[int, int]],
    seconds: Mapping[str, float],
) -> PartCost:
    def inside(other: str) -> bool:
        return other == name or other.startswith(f"{name}.")

    own = [cost for other, cost in operations.items() if inside(other)]
    spent = sum(value for other, value in seconds.items() if inside(other))
    return PartCost(name, *_parameters(module), sum(f for f, _ in own), sum(a for _, a in own), spent)


def _whole(model: nn.Module, operations: Mapping[str, tuple[int, int]], seconds: float) -> PartCost:
    flops, activations = (sum(values) for values in zip(*operations.values(), strict=True))
    return PartCost("total", *_parameters(model), flops, activations, seconds)


def _parameters(module: nn.Module) -> tuple[int, int]:
    parameters = list(module.parameters())
    return sum(p.numel() for p in parameters), sum(p.numel() for p in parameters if p.requires_grad)
