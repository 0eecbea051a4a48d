"""ONNX models whose networks compute in 8-bit integers; what makes detections of their outputs stays in float32."""

import importlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from xray_lazy.export.runtime import INPUTS, stacked

# by the names of parts in a trace; without the layers that give scores and boxes: 8 bits of an offset are whole pixels
QUANTISED = re.compile(r"/(backbone|rpn_head/conv\w*|box_head(\.\d+)?|mask_head/mask_fcn\d+)/")
QUANTISED_OPERATORS = ["Conv", "Gemm", "Add", "MaxPool"]


def to_int8(path: Path, images: Iterable[np.ndarray], batched: bool) -> None:
    """Rewrite an ONNX file: quantised statically (QDQ), weights channel by channel (Jacob et al., CVPR 2018).

    Args:
        images: `(channels, H, W)`, whose activations say which range the 8 bits are to span.
        batched: whether the model takes batches.
    """
    onnx = importlib.import_module("onnx")
    quantization = importlib.import_module("onnxruntime.quantization")
    prepared = path.with_suffix(".prepared.onnx")
    quantization.quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)
    names = [node.name for node in onnx.load(str(prepared)).graph.node if QUANTISED.search(node.name)]

    class Reader(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self._feeds: Iterator[dict] = map(_feed, images)

        def get_next(self) -> dict | None:
            return next(self._feeds, None)

    def _feed(image: np.ndarray) -> dict[str, np.ndarray]:
        return dict(zip(INPUTS, stacked([image]), strict=True)) if batched else {"picture": image}

    quantization.quantize_static(
        str(prepared),
        str(path),
        Reader(),
        quant_format=quantization.QuantFormat.QDQ,
        op_types_to_quantize=QUANTISED_OPERATORS,
        nodes_to_quantize=names,
        per_channel=True,
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
    )
    prepared.unlink()
