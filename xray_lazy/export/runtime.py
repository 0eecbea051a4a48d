"""Run an exported model: the same call for all formats."""

import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xray_lazy.errors import UserError
from xray_lazy.export.facts import ModelFacts, read_facts

OUTPUTS = ("boxes", "scores", "classes", "masks")
INPUTS = ("images", "sizes")  # of a model that takes batches
OWNER = "image_index"  # its further output
INSTALL_ONNX = "pip install 'xray-lazy[onnx]'"
INSTALL_OPENVINO = "pip install 'xray-lazy[openvino]'"
OPENVINO_TYPES = {"float32": "f32", "bfloat16": "bf16"}


class ExportedModel:
    """An exported model, ready to run.

    Args:
        facts: of the model.
        run: from an image `(channels, H, W)` to the values of `OUTPUTS`, without masks where the model has none. Where
            the model takes batches, from images `(B, channels, H, W)` and their heights and widths `(B, 2)` int64 to
            values by name: `OUTPUTS` of all images together, and `OWNER` `(N,)`, the image of each detection.
    """

    def __init__(self, facts: ModelFacts, run: Callable[..., Any]) -> None:
        self.facts = facts
        self._run = run

    def __call__(self, image: Any) -> dict[str, np.ndarray]:
        """Detections of one image, best first.

        Args:
            image: array or tensor `(channels, H, W)`, values 0..255, colours in the order of `facts.input_format`,
                resized to `facts.input_size(height, width)`; for a model of a fixed size it is filled up right and
                below.

        Returns:
            `boxes` `(N, 4)` xyxy pixels of `image`, `scores` `(N,)`, `classes` `(N,)` int64 and, where the model has
            masks, `masks` `(N, M, M)`, probabilities inside of the boxes.
        """
        return self.detect([image])[0]

    def detect(self, images: Sequence[Any]) -> list[dict[str, np.ndarray]]:
        """Detections of each image, as if it were called with that alone; together if the model takes batches.

        Images of a batch may be of several sizes; they are filled up to the largest height and width, which the network
        sees at their right and lower edges.
        """
        images = [np.ascontiguousarray(image, dtype=np.float32) for image in images]
        if not self.facts.dynamic:
            images = [fill_up(image, self.facts) for image in images]
        if not self.facts.batched:
            return [self._checked(dict(zip(OUTPUTS, self._run(image), strict=False))) for image in images]
        found = self._checked(self._run(*stacked(images)))
        starts = np.searchsorted(found.pop(OWNER), np.arange(1, len(images)))
        parts = {name: np.split(values, starts) for name, values in found.items()}
        return [{name: values[image] for name, values in parts.items()} for image in range(len(images))]

    def _checked(self, found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The outputs, if they are those that the facts tell of."""
        names, highest = self.facts.class_names, found["classes"].max(initial=-1)
        if ("masks" in found) != self.facts.has_masks:
            raise _otherwise(f"has {'' if 'masks' in found else 'no '}masks")
        if names and highest >= len(names):
            raise _otherwise(f"has a class {highest}, counted from 0, of {len(names)}")
        return found


def load_exported(
    path: str | Path, device: str = "auto", library: str | None = None, precision: str = "float32"
) -> ExportedModel:
    """Load a model that `tools/export.py` wrote.

    Args:
        path: of the model file; its facts lie beside it.
        device: for ONNX "auto" (a GPU if onnxruntime has one), "cpu" or "cuda"; OpenVINO runs on the CPU, the other
            formats run where they were exported.
        library: "openvino" runs an ONNX file by OpenVINO instead of onnxruntime.
        precision: that OpenVINO computes in, "float32" or "bfloat16"; quantised layers stay in 8 bits.

    Raises:
        UserError: the file is missing or can't be loaded here.
    """
    facts = read_facts(path)
    format = library or facts.format
    try:
        if format == "openvino":
            run = _load_openvino(Path(path), precision, facts)
        else:
            run = _LOADERS[format](Path(path), device, facts)
    except UserError:
        raise
    except Exception as error:  # each library has exceptions of its own for a damaged file
        reason = (str(error).splitlines() or [""])[0]
        raise UserError(f"{path} can't be loaded as {format}: {reason}", "copy it again, or export anew") from None
    return ExportedModel(facts, run)


def stacked(images: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """A batch `(B, channels, H, W)` of images `(channels, h, w)`, each at the upper left, and their sizes `(B, 2)`."""
    sizes = np.array([image.shape[1:] for image in images], dtype=np.int64)
    batch = np.zeros((len(images), len(images[0]), *sizes.max(0)), dtype=np.float32)
    for place, image in zip(batch, images, strict=True):
        place[:, : image.shape[1], : image.shape[2]] = image
    return batch, sizes


def fill_up(image: np.ndarray, facts: ModelFacts) -> np.ndarray:
    """An image at the upper left of one of the model's fixed size, the rest of it in the mean colour.

    Raises:
        UserError: the image is larger.
    """
    _, height, width = image.shape
    if height > facts.height or width > facts.width:
        raise UserError(
            f"the image is {width}x{height}, the model takes {facts.width}x{facts.height}",
            "resize it to facts.input_size(height, width), or export without --size",
        )
    filled = np.empty((len(facts.padding), facts.height, facts.width), dtype=np.float32)
    filled[:] = np.array(facts.padding, dtype=np.float32)[:, None, None]
    filled[:, :height, :width] = image
    return filled


def _load_onnx(path: Path, device: str, facts: ModelFacts) -> Callable:
    try:
        import onnxruntime
    except ImportError:
        raise UserError("to run an ONNX model, onnxruntime is needed", INSTALL_ONNX) from None
    there = onnxruntime.get_available_providers()
    wanted = ["CPUExecutionProvider"] if device == "cpu" else ["CUDAExecutionProvider", "CPUExecutionProvider"]
    if device.startswith("cuda") and "CUDAExecutionProvider" not in there:
        raise UserError(f"the device is {device}, but onnxruntime has no CUDA here", "pip install onnxruntime-gpu")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # it warns of shapes that are known only when it runs
    options.intra_op_num_threads = _threads()
    session = onnxruntime.InferenceSession(path, options, providers=[name for name in wanted if name in there])
    inputs = session.get_inputs()
    _check_inputs(facts, {one.name: [side if type(side) is int else None for side in one.shape] for one in inputs})
    if not facts.batched:
        return lambda image: session.run(None, {"picture": image})
    names = [output.name for output in session.get_outputs()]
    return lambda *batch: dict(zip(names, session.run(None, dict(zip(INPUTS, batch, strict=True))), strict=True))


def _load_openvino(path: Path, precision: str, facts: ModelFacts) -> Callable:
    try:
        import openvino
    except ImportError:
        raise UserError("to run a model by OpenVINO, openvino is needed", INSTALL_OPENVINO) from None
    settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": OPENVINO_TYPES[precision], "NUM_STREAMS": 1}
    if _threads():
        settings["INFERENCE_NUM_THREADS"] = _threads()
    model = openvino.Core().compile_model(str(path), "CPU", settings)
    sides = [[side.get_length() if side.is_static else None for side in one.partial_shape] for one in model.inputs]
    _check_inputs(facts, dict(zip((one.get_any_name() for one in model.inputs), sides, strict=True)))
    # a tensor may have further names, those of nodes
    names = [next(iter(output.get_names() & {*OUTPUTS, OWNER})) for output in model.outputs]
    if not facts.batched:
        return lambda image: list(model([image]).values())
    # copied: its next call writes into the same memory
    return lambda *batch: {name: np.array(values) for name, values in zip(names, model(batch).values(), strict=True)}


def _check_inputs(facts: ModelFacts, sides: dict[str, list[int | None]]) -> None:
    """Refuse facts that tell of other inputs than the model has, by their name and lengths; None is an open length."""
    image = INPUTS[0] if facts.batched else "picture"
    size = [len(facts.padding), *((None, None) if facts.dynamic else (facts.height, facts.width))]
    if sides.get(image, [])[-3:] != size:
        there = "; ".join(f"{name} {'x'.join(str(side or '?') for side in own)}" for name, own in sides.items())
        raise _otherwise(f"takes {there}")


def _otherwise(how_it_is: str) -> UserError:
    return UserError(
        f"the exported model {how_it_is}, which the JSON file beside it tells otherwise",
        "take back what was changed in that file, or export it again",
    )


def _threads() -> int:
    """How many OMP_NUM_THREADS asks for, which torch follows by itself; 0 for as many as there are cores."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return int(asked) if asked.isdecimal() else 0


def _load_torchscript(path: Path, device: str, facts: ModelFacts) -> Callable:
    import torch
    import torchvision  # noqa: F401  its operators are in the file

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`torch.jit.load` is deprecated")
        model = torch.jit.load(str(path), map_location=facts.device)
    return lambda image: _call(model, image, facts.device)


def _load_torch_export(path: Path, device: str, facts: ModelFacts) -> Callable:
    import torch
    import torchvision  # noqa: F401  its operators are in the file

    model = torch.export.load(str(path)).module()
    return lambda image: _call(model, image, facts.device)


def _call(model: Callable, image: np.ndarray, device: str) -> list[np.ndarray]:
    import torch

    with torch.inference_mode():
        return [values.cpu().numpy() for values in model(torch.from_numpy(image).to(device))]


_LOADERS = {"onnx": _load_onnx, "torchscript": _load_torchscript, "torch_export": _load_torch_export}
