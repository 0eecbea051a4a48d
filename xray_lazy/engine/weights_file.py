"""Read files of weights without running code that they may hold, and bring other projects' names to detectron2's."""

import pickle
import re
import warnings
from pathlib import Path
from typing import Any

import torch

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

    Reads torch files, detectron2's and Caffe2's `.pkl`, pycls' `.pyth`, and torchvision's ResNets and R-CNNs.
    A dict with `matching_heuristics` True is to be matched to a model by the ends of its names.

    Raises:
        UserError: the file is missing, damaged, of another kind, or holds code.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"there is no checkpoint {path}", "look for the right path; model_final.pth is the last one")
    content = _read_pickle(path) if path.suffix == ".pkl" else _read_torch(path)
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a {type(content).__name__}, not weights by name", _SAVE_STATE_DICT)
    content = _as_checkpoint(content)
    if not all(isinstance(name, str) for name in content["model"]):
        raise UserError(f"{path} does not hold weights by name", _SAVE_STATE_DICT)
    return content


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
        "such a file can run any code on loading; save model.state_dict() from the program that made it",
    )


def _unreadable(path: Path, error: Exception, beginnings: tuple[bytes, ...]) -> UserError:
    """A damaged file, if it begins as its kind does, or one of another kind."""
    if not isinstance(error, OSError):
        with path.open("rb") as stream:
            beginning = stream.read(2)
        if beginning and not beginning.startswith(beginnings):
            return UserError(f"{path} is no checkpoint", "give a run's model_best.pth or another file of weights")
    size = path.stat().st_size
    reason = str(error).split("\n")[0].split(". ")[0][:200] or type(error).__name__
    return UserError(f"can't read the checkpoint {path} ({size} bytes): {reason}", "it may be cut off; copy it again")


def _as_checkpoint(content: dict) -> dict:
    if "model" in content and isinstance(content["model"], dict):
        return content
    if "model_state" in content:  # pycls
        return {"model": content["model_state"], "matching_heuristics": True}
    if "blobs" in content:  # Caffe2: detection models have "blobs"
        return _caffe2(content["blobs"])
    if "conv1_w" in content:  # and classification models don't
        return _caffe2(content)
    return {"model": torchvision_names(content)}


def _caffe2(blobs: dict) -> dict:
    weights = {name: blob for name, blob in blobs.items() if not name.endswith("_momentum")}
    return {"model": weights, "__author__": "Caffe2", "matching_heuristics": True}


def torchvision_names(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename the weights of torchvision's ResNets and of its R-CNNs' backbone and FPN; others are left as they are.

    Their backbones expect RGB pictures: `model.input_format="RGB"` with torchvision's pixel statistics, and
    `stride_in_1x1=False`.
    """
    is_resnet = "conv1.weight" in weights and "layer1.0.conv1.weight" in weights
    is_rcnn = "backbone.body.conv1.weight" in weights
    if not (is_resnet or is_rcnn):
        return weights
    renamed = {}
    for name, value in weights.items():
        new_name = _rename(name.removeprefix("backbone.body.")) if is_resnet or ".body." in name else _rename_fpn(name)
        if new_name and not new_name.endswith("num_batches_tracked"):
            renamed[new_name] = value
    return renamed


def _rename(name: str) -> str | None:
    """A name inside torchvision's ResNet."""
    if name.startswith("fc."):
        return None
    name = re.sub(r"^(conv1|bn1)\b", r"stem.\1", name)
    name = re.sub(r"^layer(\d)", lambda match: f"res{int(match[1]) + 1}", name)
    name = re.sub(r"\bbn(\d)", r"conv\1.norm", name)
    name = name.replace("downsample.0", "shortcut").replace("downsample.1", "shortcut.norm")
    return f"backbone.bottom_up.{name}"


def _rename_fpn(name: str) -> str | None:
    """A name outside the body of torchvision's R-CNNs; their heads count classes and anchors in another way."""
    match = re.match(r"backbone\.fpn\.(inner|layer)_blocks\.(\d)(?:\.0)?\.(weight|bias)$", name)
    if not match:
        return None
    part = "lateral" if match[1] == "inner" else "output"
    return f"backbone.fpn_{part}{int(match[2]) + 2}.{match[3]}"
