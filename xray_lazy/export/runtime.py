"""Run an exported model: the same call for ONNX, TorchScript and torch.export."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xray_lazy.errors import UserError
from xray_lazy.export.facts import ModelFacts, read_facts

OUTPUTS = ("boxes", "scores", "classes", "masks")
INSTALL_ONNX = "pip install 'xray-lazy[onnx]'"


class ExportedModel:
    """An exported model, ready to run.

    Args:
        facts: of the model.
        run: from an image `(channels, H, W)` to the values of `OUTPUTS`, without masks where the model has none.
    """

    def __init__(self, facts: ModelFacts, run: Callable[[np.ndarray], Sequence[np.ndarray]]) -> None:
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
        image = np.ascontiguousarray(image, dtype=np.float32)
        if not self.facts.dynamic:
            image = fill_up(image, self.facts)
        return dict(zip(OUTPUTS, self._run(image), strict=False))


def load_exported(path: str | Path, device: str = "auto") -> ExportedModel:
    """Load a model that `tools/export.py` wrote.

    Args:
        path: of the model file; its facts lie beside it.
        device: for ONNX "auto" (a GPU if onnxruntime has one), "cpu" or "cuda"; the other formats run where they were
            exported.

    Raises:
        UserError: the file is missing or can't be loaded here.
    """
    facts = read_facts(path)
    try:
        run = _LOADERS[facts.format](Path(path), device, facts)
    except UserError:
        raise
    except Exception as error:  # each library has exceptions of its own for a damaged file
        reason = (str(error).splitlines() or [""])[0]
        raise UserError(
            f"{path} can't be loaded as {facts.format}: {reason}", "copy it again, or export anew"
        ) from None
    return ExportedModel(facts, run)


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
    session = onnxruntime.InferenceSession(path, options, providers=[name for name in wanted if name in there])
    return lambda image: session.run(None, {"picture": image})


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
