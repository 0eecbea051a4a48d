"""Write a detector of one image as ONNX, TorchScript or a torch.export program."""

import contextlib
import importlib.util
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch

from xray_lazy.atomic_file import write_bytes
from xray_lazy.errors import RunFailure, UserError
from xray_lazy.export.runtime import INSTALL_ONNX, OUTPUTS
from xray_lazy.export.single_image import SingleImageDetector, traceable

ONNX_OPSET = 17  # the first with all that is needed is 16: ROIAlign with aligned corners


def write_model(detector: SingleImageDetector, image: torch.Tensor, path: Path, format: str, dynamic: bool) -> None:
    """Export.

    Args:
        detector: in evaluation mode.
        image: `(3, H, W)` to trace it with, on the detector's device.
        path: of the file to write.
        format: "onnx", "torchscript" or "torch_export".
        dynamic: leave height and width open; torch.export can't.

    Raises:
        UserError: packages are missing.
        RunFailure: the model has something in it that the format can't express.
    """
    try:
        with quietly(), traceable():
            _WRITERS[format](detector, image, path, dynamic)
    except UserError:
        raise
    except OSError:
        raise  # of the disk, not of the model
    except Exception as error:  # each exporter has errors of its own, for whatever a model may do
        reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0][:300]}"
        raise RunFailure(
            f"{type(detector.detector).__name__} can't be written as {format}: {reason}", _OTHER_FORMAT[format]
        ) from error


def _write_onnx(detector: SingleImageDetector, image: torch.Tensor, path: Path, dynamic: bool) -> None:
    missing = [name for name in ("onnx", "onnxruntime", "onnxscript") if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"ONNX needs packages that are not installed: {', '.join(missing)}", INSTALL_ONNX)
    names = list(OUTPUTS[: len(detector(image))])
    axes = {name: {0: "detections"} for name in names}
    if dynamic:
        axes["picture"] = {1: "height", 2: "width"}
    # the tracing exporter: the newer one is built on torch.export, which can't follow R-CNN's selections
    torch.onnx.export(
        detector,
        (image,),
        path,
        dynamo=False,
        opset_version=ONNX_OPSET,
        input_names=["picture"],
        output_names=names,
        dynamic_axes=axes,
    )


def _write_torchscript(detector: SingleImageDetector, image: torch.Tensor, path: Path, dynamic: bool) -> None:
    # its own check compares with the same image only
    # in memory first: where the disk is full, torch's own writer ends the process
    write_bytes(path, torch.jit.trace(detector, (image,), check_trace=False).save_to_buffer())


def _write_torch_export(detector: SingleImageDetector, image: torch.Tensor, path: Path, dynamic: bool) -> None:
    stream = io.BytesIO()  # as above
    torch.export.save(torch.export.export(detector, (image,)), stream)
    write_bytes(path, stream.getvalue())


_WRITERS = {"onnx": _write_onnx, "torchscript": _write_torchscript, "torch_export": _write_torch_export}
_OTHER_FORMAT = {
    "onnx": "try --format torchscript, and --debug to see where it stops",
    "torchscript": "see with --debug where it stops",
    "torch_export": "use --format onnx or torchscript: torch.export follows no choice that depends on the image, "
    "such as R-CNN's proposals",
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
