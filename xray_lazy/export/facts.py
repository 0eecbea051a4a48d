"""What one has to know of an exported model: the JSON file that lies next to it."""

import dataclasses
import hashlib
import json
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xray_lazy.errors import UserError
from xray_lazy.utils.atomic_file import write_json

TAKES_BATCHES = ("onnx", "openvino")  # the other formats have one image at a time
SUFFIXES = {"onnx": ".onnx", "torchscript": ".ts", "torch_export": ".pt2", "openvino": ".xml"}


@dataclass(frozen=True)
class ModelFacts:
    """Facts of an exported model.

    Attributes:
        format: a key of `SUFFIXES`.
        class_names: by index.
        input_format: "BGR" or "RGB", the order of the input's channels.
        short_edge: pixels that an image's shorter side is resized to, as in training; 0 leaves images as they are.
        max_size: pixels that its longer side must not exceed after that.
        size_divisibility: what the model pads height and width to a multiple of, by itself.
        dynamic: it takes images of any size; else only of `height` x `width`.
        height, width: of its input, pixels; where it is dynamic, an example.
        padding: one value per channel, what smaller images are filled up with to a fixed size: the mean image.
        has_masks: it gives masks.
        device: that it was exported on; TorchScript and torch.export stay there.
        model: class name of the detector.
        weights: file or URL of its weights.
        iteration: that they were saved after; None where their file does not say.
        reader: the arguments of `ImageReader` for its images, where they are no files of 8-bit colours.
        batched: it takes several images at once; else one, under the name of `picture`.
        precision: of its layers: "float32", "float16" or "int8".
        average_precision: AP on the test set by task, of PyTorch and of the exported model, in percent; empty where it
            has not been measured.
        weights_sha256: of the file of the weights; empty where it is not known.
        overrides: of the run's config that it was exported with, as far as they change what it finds.
        model_sha256: of the model's own files; empty in facts of before it was there.
    """

    format: str
    class_names: tuple[str, ...]
    input_format: str
    short_edge: int
    max_size: int
    size_divisibility: int
    dynamic: bool
    height: int
    width: int
    padding: tuple[float, ...]
    has_masks: bool
    device: str
    model: str
    weights: str
    iteration: int | None
    reader: dict[str, Any] = field(default_factory=dict)
    batched: bool = False
    precision: str = "float32"
    average_precision: dict[str, dict[str, float]] = field(default_factory=dict)
    weights_sha256: str = ""
    overrides: tuple[str, ...] = ()
    model_sha256: str = ""

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width that an image of this size is resized to before it goes into the model, in any format."""
        if not self.dynamic:
            scale = min(self.height / height, self.width / width)
        elif self.short_edge:
            scale = min(self.short_edge / min(height, width), self.max_size / max(height, width))
        else:
            scale = 1.0
        return max(int(height * scale + 0.5), 1), max(int(width * scale + 0.5), 1)


def sha256_of(*files: Path) -> str:
    """By which a file, or several in their order, are known again."""
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            hashlib.file_digest(stream, lambda: digest)
    return digest.hexdigest()


def files_of(path: Path, format: str) -> list[Path]:
    """All that belongs to an exported model but its facts."""
    return [path, path.with_suffix(".bin")] if format == "openvino" else [path]


def facts_path(model_file: str | Path) -> Path:
    """Where the facts of a model file are."""
    return Path(f"{model_file}.json")


def write_facts(model_file: str | Path, facts: ModelFacts) -> None:
    """Write them next to the model, whose files are known by them from then on."""
    own = sha256_of(*files_of(Path(model_file), facts.format))
    write_json(facts_path(model_file), dataclasses.asdict(facts) | {"model_sha256": own}, indent=2)


def read_facts(model_file: str | Path) -> ModelFacts:
    """Read them.

    Raises:
        UserError: model or facts are missing, of another kind, or not of one export.
    """
    model_file = Path(model_file)
    if not model_file.is_file():
        raise UserError(f"there is no exported model {model_file}", "write one with `tools/export.py OUTPUT_DIR`")
    path = facts_path(model_file)
    try:
        facts = _facts_in(json.loads(path.read_bytes()))
    except FileNotFoundError:
        raise UserError(f"{model_file} has no {path.name} beside it", _COPY_ALL) from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path} is not the description of an exported model: {error}", "export it again") from None
    files = files_of(model_file, facts.format)
    for file in files:
        if not file.is_file():
            raise UserError(f"{model_file} has no {file.name} beside it", _COPY_ALL)
    # after a kill between the renames of an export, or where files of two were copied
    if facts.model_sha256 and facts.model_sha256 != sha256_of(*files):
        raise UserError(
            f"{model_file} is not what {path.name} describes: it is of another export, or cut off",
            f"{_COPY_ALL}, or export it again",
        )
    return facts


_COPY_ALL = "copy all files that tools/export.py wrote"


def _facts_in(content: Any) -> ModelFacts:
    if not isinstance(content, dict):
        raise TypeError(f"it is a JSON {type(content).__name__}")
    # what has a default is not in files of before it was there
    known = [entry for entry in dataclasses.fields(ModelFacts) if entry.name in content]
    values = {entry.name: content[entry.name] for entry in known}
    for name, value in values.items():
        if not _IS_RIGHT[name](value):
            raise ValueError(f"{name} is {value!r:.80}")
    for name in {"class_names", "padding", "overrides"} & values.keys():
        values[name] = tuple(values[name])
    if values.get("batched") and values["format"] not in TAKES_BATCHES:
        raise ValueError(f"batched is true for {values['format']}")
    return ModelFacts(**values)


def _whole(least: int, most: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and least <= value <= most


def _one_of(*choices: str) -> Callable[[Any], bool]:
    return lambda value: value in choices


def _kind(*kinds: type) -> Callable[[Any], bool]:
    return lambda value: type(value) in kinds


def _list_of(is_right: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(is_right, value))


_SIDE = 2**16  # pixels; more is a slip
_IS_RIGHT: dict[str, Callable[[Any], bool]] = {
    "format": lambda value: isinstance(value, str) and value in SUFFIXES,
    "class_names": _list_of(_kind(str)),
    "input_format": _one_of("BGR", "RGB"),
    "short_edge": _whole(0, _SIDE),
    "max_size": _whole(1, sys.maxsize),
    "size_divisibility": _whole(0, _SIDE),
    "dynamic": _kind(bool),
    "height": _whole(1, _SIDE),
    "width": _whole(1, _SIDE),
    "padding": lambda value: (
        bool(value) and _list_of(lambda one: type(one) in (int, float) and math.isfinite(one))(value)
    ),
    "has_masks": _kind(bool),
    "device": _kind(str),
    "model": _kind(str),
    "weights": _kind(str),
    "iteration": _kind(int, type(None)),
    "reader": _kind(dict),
    "batched": _kind(bool),
    "precision": _one_of("float32", "float16", "int8"),
    "average_precision": _kind(dict),
    "weights_sha256": _kind(str),
    "overrides": _list_of(_kind(str)),
    "model_sha256": _kind(str),
}
