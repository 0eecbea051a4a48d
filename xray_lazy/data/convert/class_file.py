"""Class names in their order, from a text file or from the YAML file of a YOLO set."""

from collections.abc import Collection, Iterable
from pathlib import Path

from xray_lazy.config.suggest import did_you_mean, nearest
from xray_lazy.data.check.values import is_whole
from xray_lazy.errors import UserError
from xray_lazy.utils.wording import AS_UTF_8, not_utf_8

_ONE_PER_LINE = "a text file holds one class name per line; a YAML file holds them under `names`"

_YAML_SUFFIXES = (".yaml", ".yml")


def read_classes(path: Path) -> tuple[str, ...]:
    """The class names in a file.

    Raises:
        UserError: the file is missing or unreadable, or a name is empty or there twice.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"class file {path} is {not_utf_8(error)}", AS_UTF_8) from None
    except OSError as error:
        raise UserError(f"class file {path} can't be read: {error}", _ONE_PER_LINE) from None
    if path.suffix.lower() in _YAML_SUFFIXES:
        names = _names_in_yaml(path, text)
    else:
        names = [line.strip() for line in text.rstrip().splitlines()]
    if not names or not all(names):
        raise UserError(f"class file {path} has {'an empty line' if names else 'no class names'}", _ONE_PER_LINE)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(f"class file {path} has {', '.join(twice)} more than once", "give each class its own name")
    return tuple(names)


def check_rename(rename: Iterable[str], classes: Collection[str]) -> None:
    """See to it that a set has the classes that are to get other names.

    Raises:
        UserError: it lacks one.
    """
    if unknown := [old for old in rename if old not in classes]:
        fix = did_you_mean(nearest(unknown[0], classes)) or f"its classes are {', '.join(classes)}"
        raise UserError(f"the set has no class {unknown[0]} that could be renamed", fix)


def find_class_file(folder: Path) -> Path | None:
    """The class file of a YOLO set: in its folder or the one above, as tools leave it there."""
    for place in (folder, folder.resolve().parent):
        for name in ("data.yaml", "dataset.yaml", "classes.txt", "obj.names"):
            if (place / name).is_file():
                return place / name
    return None


def read_keypoints(path: Path) -> int | None:
    """How many numbers for key points each line of a YOLO set has by the `kpt_shape` of its YAML file, if stated.

    Raises:
        UserError: `kpt_shape` is not [points, 2 or 3].
    """
    if path.suffix.lower() not in _YAML_SUFFIXES:
        return None
    content = _yaml_content(path, path.read_text(encoding="utf-8-sig"))
    shape = content.get("kpt_shape") if isinstance(content, dict) else None
    if shape is None:
        return None
    if not isinstance(shape, list) or len(shape) != 2 or not all(map(is_whole, shape)) or shape[1] not in (2, 3):
        raise UserError(f"{path}: `kpt_shape` is {shape!r}", "it is [number of points, 2 or 3 numbers for each]")
    return max(shape[0], 0) * shape[1]


def _yaml_content(path: Path, text: str, as_written: bool = False) -> object:
    """What is in a YAML file; `as_written` gives texts alone, where `no` would be False and 007 be 7."""
    import yaml

    try:
        return yaml.load(text, Loader=yaml.BaseLoader if as_written else yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not valid YAML: {error}", _ONE_PER_LINE) from None


def _names_in_yaml(path: Path, text: str) -> list[str]:
    content = _yaml_content(path, text, as_written=True)
    names = content.get("names") if isinstance(content, dict) else None
    if isinstance(names, dict):
        numbers = [str(number) for number in range(len(names))]
        if sorted(names) != sorted(numbers):
            raise UserError(f"{path}: the numbers of `names` don't run from 0", "number the classes 0, 1, 2, ...")
        names = [names[number] for number in numbers]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{path} has no list `names` of texts", _ONE_PER_LINE)
    return [name.strip() for name in names]
