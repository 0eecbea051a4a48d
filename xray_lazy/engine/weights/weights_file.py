"""Read files of weights without running code that they may hold, and bring other projects' names to detectron2's."""

import pickle
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from xray_lazy.engine.weights.weights_source import (
    Expected,
    bare_names,
    mmdetection_classes,
    mmdetection_expects,
    mmdetection_names,
    torchvision_names,
)
from xray_lazy.errors import UserError

# What a pickle of arrays needs; a name outside this list could run anything.
_ARRAY_CLASSES = {
    ("_codecs", "encode"),
    ("collections", "OrderedDict"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
}


def read_weights_file(path: str | Path) -> dict[str, Any]:
    """The content of a checkpoint: a dict with `model`, and what else the file holds.

    Reads torch files, detectron2's and Caffe2's `.pkl`, pycls' `.pyth`, torchvision's ResNets and R-CNNs, and what
    MMDetection and Lightning keep under `state_dict`.
    A dict with `matching_heuristics` True is to be matched to a model by the ends of its names; `expected` is an
    `Expected` where the source of the weights is known, and `class_names` are there where the file tells them.

    Raises:
        UserError: the file is missing, damaged, of another kind, or holds code.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"there is no checkpoint {path}", "look for the right path; model_final.pth is the last one")
    content = _read_pickle(path) if path.suffix == ".pkl" else _read_torch(path)
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a {type(content).__name__}, not weights by name", _SAVE_STATE_DICT)
    content = _as_checkpoint(content, path)
    _refuse_what_no_model_takes(path, content["model"])
    _refuse_no_numbers(path, content["model"])
    return content


def _by_name(weights: Any, path: Path) -> dict[str, Any]:
    if not isinstance(weights, dict) or not all(isinstance(name, str) for name in weights):
        raise UserError(f"{path} does not hold weights by name", _SAVE_STATE_DICT)
    return weights


def _refuse_what_no_model_takes(path: Path, weights: dict[str, Any]) -> None:
    """A parameter can be filled by a plain array of real numbers alone."""
    for name, value in weights.items():
        if kind := _odd_kind(value):
            fix = "save plain tensors of numbers, by their names: model.state_dict() of a model in float32"
            raise UserError(f"{path} holds {kind} under {name}", fix)


def _odd_kind(value: Any) -> str:
    """What is wrong with a value as a weight; empty where nothing is."""
    if isinstance(value, np.ndarray | np.generic):
        can_be_read = value.dtype.kind in "biuf" and value.dtype.itemsize <= 8
        return "" if can_be_read else f"an array of {value.dtype.str}"
    if not isinstance(value, torch.Tensor):
        return f"a {type(value).__name__}"
    if value.is_meta:
        return "a tensor without its values (on the device meta)"
    if value.is_complex() or value.is_quantized or value.layout != torch.strided:
        return f"a tensor of {value.dtype}" if value.layout == torch.strided else f"a tensor of {value.layout}"
    return ""


def _refuse_no_numbers(path: Path, weights: dict[str, Any]) -> None:
    """A model with such weights finds nothing, without a word."""
    damaged = {name: 0 for name, value in weights.items() if _holds_nan(value)}
    if damaged:
        message = f"{path} holds NaN in place of numbers, in {_some(damaged)}"
        raise UserError(message, "take an earlier checkpoint of that training, which has diverged")


def _holds_nan(value: Any) -> bool:
    if isinstance(value, np.ndarray | np.generic):
        return value.dtype.kind == "f" and bool(np.isnan(value).any())
    return value.is_floating_point() and bool(torch.isnan(value).any())


_SAVE_STATE_DICT = "save model.state_dict() there, or {'model': model.state_dict()}"


def _read_torch(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickles that torch did not write; what follows says it
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a file of another kind can raise almost anything
        asked_for = re.search(r"GLOBAL ([\w.]+)", str(error))
        if asked_for:
            raise _refuse(path, f"it asks for {asked_for[1]}") from None
        if "TorchScript" in str(error):
            fix = "give the weights that it was made from: model_best.pth of the run"
            raise UserError(f"{path} is a TorchScript program, not weights by name", fix) from None
        raise _unreadable(path, error, (b"PK", b"\x80\x02")) from None  # an archive, and what torch < 1.6 wrote


def _read_pickle(path: Path) -> Any:
    try:
        with path.open("rb") as stream:
            return _ArrayUnpickler(stream, encoding="latin1").load()
    except _ForbiddenClassError as error:
        raise _refuse(path, str(error)) from None
    except Exception as error:  # a damaged pickle can raise almost anything
        raise _unreadable(path, error, (b"\x80", b"(")) from None


class _ForbiddenClassError(Exception):
    pass


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ARRAY_CLASSES:
            raise _ForbiddenClassError(f"it asks for {module}.{name}")
        return super().find_class(module, name)


def _refuse(path: Path, why: str) -> UserError:
    return UserError(
        f"{path} holds more than arrays and is not loaded: {why}",
        "such a file can run any code on loading; save the weights alone where you trust it and the program that made "
        f"it is at hand: torch.save(torch.load({str(path)!r}, weights_only=False)['state_dict'], 'weights.pth') for "
        "MMDetection and Lightning, or model.state_dict()",
    )


def _unreadable(path: Path, error: Exception, beginnings: tuple[bytes, ...]) -> UserError:
    """A damaged file, if it begins as its kind does, or one of another kind."""
    if not isinstance(error, OSError):
        with path.open("rb") as stream:
            beginning = stream.read(2)
        is_other_archive = zipfile.is_zipfile(path) and not _has_pickle(path)
        if is_other_archive or (beginning and not beginning.startswith(beginnings)):
            return UserError(f"{path} is no checkpoint", "give a run's model_best.pth or another file of weights")
    size = path.stat().st_size
    reason = str(error).split("\n")[0].split(". ")[0][:200] or type(error).__name__
    return UserError(f"can't read the checkpoint {path} ({size} bytes): {reason}", "it may be cut off; copy it again")


def _has_pickle(archive: Path) -> bool:
    with zipfile.ZipFile(archive) as content:
        return any(name.endswith(".pkl") for name in content.namelist())


# Where trainers keep the weights: detectron2, torch's tutorials; MMDetection and Lightning.
_KEYS_OF_WEIGHTS = ("model", "model_state_dict", "state_dict")


def _as_checkpoint(content: dict, path: Path) -> dict:
    if "model_state" in content:  # pycls
        return {"model": _by_name(content["model_state"], path), "matching_heuristics": True}
    if "blobs" in content:  # Caffe2: detection models have "blobs"
        return _caffe2(_by_name(content["blobs"], path))
    if "conv1_w" in content:  # and classification models don't
        return _caffe2(_by_name(content, path))
    key = next((key for key in _KEYS_OF_WEIGHTS if isinstance(content.get(key), dict)), None)
    weights = content if key is None else content[key]
    if not any(isinstance(value, torch.Tensor | np.ndarray | np.generic) for value in weights.values()):
        raise UserError(
            f"{path} does not hold weights by name{f' under {key}' if key else ''}, but {_some(weights)}",
            _SAVE_STATE_DICT,
        )
    weights = _by_name(weights, path)
    if key == "model" and "__author__" in content:
        known = Expected.torch_like("torchvision") if content["__author__"] == "torchvision" else None
        return {**content, "expected": known}
    weights = bare_names(weights)
    expected, classes = None, ()
    if (renamed := torchvision_names(weights)) is not None:
        expected = Expected.torch_like("torchvision")
    elif (renamed := mmdetection_names(weights)) is not None:
        expected, classes = mmdetection_expects(content.get("meta")), mmdetection_classes(content.get("meta"))
    others = content if key == "model" else {}  # what else other trainers keep, such as an optimizer, is not ours
    others = {**others, "class_names": classes} if classes else others
    return {**others, "model": weights if renamed is None else renamed, "expected": expected}


def _some(names: dict) -> str:
    shown = ", ".join(map(str, list(names)[:5])) or "nothing"
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown


def _caffe2(blobs: dict) -> dict:
    weights = {name: blob for name, blob in blobs.items() if not name.endswith("_momentum")}
    first = weights.get("res2_0_branch2a_w")  # 64 channels in ResNets; ResNeXts were trained with other statistics
    expected = Expected.caffe_like("Caffe2") if first is not None and len(first) == 64 else None
    return {"model": weights, "__author__": "Caffe2", "matching_heuristics": True, "expected": expected}
