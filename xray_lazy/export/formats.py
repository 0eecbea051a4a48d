"""Write a detector as ONNX, OpenVINO's IR, TorchScript or a torch.export program."""

import contextlib
import importlib.util
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import nn

from xray_lazy.errors import RunFailure, UserError
from xray_lazy.export.facts import TAKES_BATCHES
from xray_lazy.export.runtime import INPUTS, INSTALL_ONNX, INSTALL_OPENVINO, OUTPUTS, OWNER
from xray_lazy.export.single_image import traceable
from xray_lazy.utils.atomic_file import write_bytes

ONNX_OPSET = 17  # the first with all that is needed is 16: ROIAlign with aligned corners


def write_model(
    detector: nn.Module,
    image: torch.Tensor,
    path: Path,
    format: str,
    dynamic: bool,
    refine: Callable[[Path], None] | None = None,
) -> None:
    """Export.

    Args:
        detector: what `exportable` gives, in evaluation mode.
        image: `(3, H, W)` to trace it with, on the detector's device.
        path: of the file to write.
        format: "onnx", "openvino", "torchscript" or "torch_export".
        dynamic: leave height and width open; torch.export can't.
        refine: changes the ONNX file, which an OpenVINO model is made of, too.

    Raises:
        UserError: packages are missing.
        RunFailure: the model has something in it that the format can't express.
    """
    try:
        with quietly(), traceable():
            if format in TAKES_BATCHES:
                _write_onnx(detector, image, path, dynamic, format == "openvino", refine)
            else:
                _WRITERS[format](detector, image, path)
    except UserError:
        raise
    except OSError:
        raise  # of the disk, not of the model
    except Exception as error:  # each exporter has errors of its own, for whatever a model may do
        reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0][:300]}"
        raise RunFailure(
            f"{type(detector.detector).__name__} can't be written as {format}: {reason}", _OTHER_FORMAT[format]
        ) from error


def _write_onnx(
    detector: nn.Module,
    image: torch.Tensor,
    path: Path,
    dynamic: bool,
    as_openvino: bool,
    refine: Callable[[Path], None] | None,
) -> None:
    _require("ONNX", ("onnx", "onnxruntime", "onnxscript"), INSTALL_ONNX)
    if as_openvino:
        _require("OpenVINO", ("openvino",), INSTALL_OPENVINO)
    file = path.with_suffix(".traced.onnx") if as_openvino else path
    sides = {1: "height", 2: "width"} if dynamic else {}
    if detector.takes_batches:
        inputs = (torch.stack([image, image]), torch.tensor([image.shape[1:]] * 2))
        input_names, further = list(INPUTS), [OWNER]
        axes = {INPUTS[0]: {0: "batch"} | {axis + 1: name for axis, name in sides.items()}, INPUTS[1]: {0: "batch"}}
    else:
        inputs, input_names, further, axes = (image,), ["picture"], [], {"picture": sides}
    count = len(detector(*inputs))
    names = [*OUTPUTS[:3], *further, *OUTPUTS[3:]][:count]
    # the tracing exporter: the newer one is built on torch.export, which can't follow R-CNN's selections
    torch.onnx.export(
        detector,
        inputs,
        file,
        dynamo=False,
        opset_version=ONNX_OPSET,
        input_names=input_names,
        output_names=names,
        dynamic_axes=axes | {name: {0: "detections"} for name in names},
    )
    if refine:
        refine(file)
    if as_openvino:
        import openvino

        # read, not converted by `openvino.convert_model`, which tells its makers of each use
        openvino.save_model(openvino.Core().read_model(str(file)), str(path), compress_to_fp16=False)
        file.unlink()


def _require(what: str, packages: tuple[str, ...], fix: str) -> None:
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"{what} needs packages that are not installed: {', '.join(missing)}", fix)


def _write_torchscript(detector: nn.Module, image: torch.Tensor, path: Path) -> None:
    # its own check compares with the same image only
    # in memory first: where the disk is full, torch's own writer ends the process
    write_bytes(path, torch.jit.trace(detector, (image,), check_trace=False).save_to_buffer())


def _write_torch_export(detector: nn.Module, image: torch.Tensor, path: Path) -> None:
    stream = io.BytesIO()  # as above
    torch.export.save(torch.export.export(detector, (image,)), stream)
    write_bytes(path, stream.getvalue())


_WRITERS = {"torchscript": _write_torchscript, "torch_export": _write_torch_export}
_OTHER_FORMAT = {
    "openvino": "try --format onnx, and --debug to see where it stops",
    "onnx": "try --format torchscript, and --debug to see where it stops",
    "torchscript": "see with --debug where it stops",
    "torch_export": "use --format onnx or torchscript: torch.export follows no choice that depends on the image",
}


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Without the exporters' remarks: whether a trace is right, the comparison afterwards tells."""
    logged_until = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        nowhere = io.StringIO()
        with warnings.catch_warnings(), contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logged_until)
