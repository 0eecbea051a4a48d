"""What one has to know of an exported model: the JSON file that lies next to it."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

from xray_lazy.atomic_file import write_json
from xray_lazy.errors import UserError

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

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width that an image of this size is resized to before it goes into the model, in any format."""
        if not self.dynamic:
            scale = min(self.height / height, self.width / width)
        elif self.short_edge:
            scale = min(self.short_edge / min(height, width), self.max_size / max(height, width))
        else:
            scale = 1.0
        return max(int(height * scale + 0.5), 1), max(int(width * scale + 0.5), 1)


def sha256_of(file: Path) -> str:
    """By which a file is known again."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def facts_path(model_file: str | Path) -> Path:
    """Where the facts of a model file are."""
    return Path(f"{model_file}.json")


def write_facts(model_file: str | Path, facts: ModelFacts) -> None:
    """Write them next to the model."""
    write_json(facts_path(model_file), dataclasses.asdict(facts), indent=2)


def read_facts(model_file: str | Path) -> ModelFacts:
    """Read them.

    Raises:
        UserError: model or facts are missing or of another kind.
    """
    if not Path(model_file).is_file():
        raise UserError(f"there is no exported model {model_file}", "write one with `tools/export.py OUTPUT_DIR`")
    path = facts_path(model_file)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        # what has a default is not in files of before it was there
        known = {entry.name for entry in dataclasses.fields(ModelFacts)}
        values = {name: value for name, value in content.items() if name in known}
        for name in ("class_names", "padding"):
            values[name] = tuple(values[name])
        for name, kind in get_type_hints(ModelFacts).items():
            if isinstance(kind, type) and not isinstance(values.get(name, kind()), kind):
                raise TypeError(f"{name} is {values[name]!r}")
        if not all(isinstance(name, str) for name in values["class_names"]):
            raise TypeError("class_names are no texts")
        return ModelFacts(**values)
    except FileNotFoundError:
        raise UserError(
            f"{model_file} has no {path.name} beside it", "copy both files that tools/export.py wrote"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is not the description of an exported model: {error}", "export it again") from None
