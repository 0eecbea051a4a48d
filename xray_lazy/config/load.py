"""Load a config from a LazyConfig file (.py) or from one that `save_config` wrote (.yaml)."""

import builtins
import os
import threading
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import FrameType, TracebackType

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from xray_lazy.config.keys import expand_home, first_line
from xray_lazy.config.suggest import did_you_mean, nearest
from xray_lazy.config.yaml_format import parse_yaml, read_text
from xray_lazy.errors import UserError
from xray_lazy.utils.wording import AS_UTF_8, not_utf_8

BYTE_ORDER_MARK = "\ufeff"  # which some editors write, and detectron2's loader takes for a letter
_SUFFIXES = (".py", ".yaml", ".yml")
# LazyConfig.load puts an importer of its own in place of Python's, for all threads; a config file may load another one
_ONE_LOADS = threading.RLock()


def load_config(path: str | os.PathLike, overrides: Sequence[str] = ()) -> DictConfig:
    """The config in a file, with overrides applied; a new object at each call, which shares nothing with others.

    Args:
        path: a LazyConfig (.py), which may import other config files relative to itself, or a saved config (.yaml).
        overrides: see `apply_overrides`.

    Raises:
        UserError: there is no such file (near names are given), it has an error (file and line are given), it holds
            no config, or an override is wrong.
    """
    path = Path(os.path.expanduser(path))
    if path.is_dir():
        inside = path / "config.yaml"
        raise UserError(f"{path} is a folder", f"give {inside if inside.is_file() else 'a config file in it'}")
    if path.suffix not in _SUFFIXES:
        raise UserError(f"{path} is no config file", "give a LazyConfig (.py) or a saved config.yaml")
    if not path.is_file():
        raise UserError(f"there is no config file {path}", _near_files(path))
    config = _load_python(path) if path.suffix == ".py" else _load_yaml(path)
    expand_home(config)
    if overrides:
        from xray_lazy.config.overrides import apply_overrides

        config = apply_overrides(config, overrides)
    return config


def get_config(name: str, overrides: Sequence[str] = ()) -> DictConfig:
    """One of the configs that come with this package: `get_config("xray/mask_rcnn_r50.py")`.

    Args:
        name: path below `configs/`, or `projects/<project>/` and the path below that project's `configs/`; experiments
            are listed by `config_names()`, their parts are in folders `common/`.
        overrides: see `apply_overrides`.

    Raises:
        UserError: there is none of that name (near names are given), or an override is wrong.
    """
    return load_config(find_config(name), overrides)


def find_config(name: str) -> Path:
    """The file of a packaged config; raises as `get_config`."""
    files = _packaged_files()
    if name not in files:
        near = nearest(name, files) or config_names()
        raise UserError(f"there is no config {name} in {config_folder()}", did_you_mean(near))
    return files[name]


def config_names() -> list[str]:
    """The experiments that `get_config` knows."""
    return [name for name in _packaged_files() if "common" not in Path(name).parts]


def config_folder() -> Path:
    """Where the packaged configs are: inside the package when installed from a wheel, else in the checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def _packaged_files() -> dict[str, Path]:
    """All packaged config files by name. A wheel has the projects' below the others; a checkout, with the projects."""
    folder = config_folder()
    folders = {"": folder}
    for project in folder.parent.glob("projects/*/configs"):
        folders[f"projects/{project.parent.name}/"] = project
    files = {
        prefix + path.relative_to(where).as_posix(): path
        for prefix, where in folders.items()
        for path in where.rglob("*.py")
    }
    hidden = (".", "_")
    return {name: files[name] for name in sorted(files) if not any(p.startswith(hidden) for p in Path(name).parts)}


def _near_files(path: Path) -> str:
    """What the person may have meant: a packaged config by its name, else one of a near name there or here."""
    files = _packaged_files()
    packaged = {name: os.path.relpath(files[name]) for name in config_names()}
    if path.as_posix() in packaged:
        return did_you_mean([packaged[path.as_posix()]])
    there = sorted(file for file in path.parent.glob("*") if file.suffix in _SUFFIXES and file.is_file())
    near = [str(path.parent / name) for name in nearest(path.name, [file.name for file in there])]
    by_file_name = {Path(name).name: place for name, place in packaged.items()}
    near = near or [by_file_name[name] for name in nearest(path.name, by_file_name)]
    if near:
        return did_you_mean(near)
    if there:
        return f"in that folder there are: {', '.join(file.name for file in there[:8])}"
    return f"no config is in the folder {path.parent}; ready ones are in {os.path.relpath(config_folder())}"


def _load_yaml(path: Path) -> DictConfig:
    return from_yaml(read_text(path), str(path))


def from_yaml(text: str, source: str) -> DictConfig:
    """The config in what `to_yaml` gave; `source` says in messages where the text is from.

    Raises:
        UserError: it is not YAML, or holds no config.
    """
    try:
        tree = parse_yaml(text, source)
        if not isinstance(tree, dict) or not tree:
            raise UserError(f"{source} holds no config", "give a LazyConfig (.py) or the config.yaml of a run")
        if "_BASE_" in tree or "MODEL" in tree:
            fix = "write a LazyConfig for it: a .py file; configs/xray/ has examples"
            raise UserError(f"{source} is a config for detectron2's older yacs format", fix)
        return OmegaConf.create(tree, flags={"allow_objects": True})
    except OmegaConfBaseException as error:
        raise UserError(f"{source}: {first_line(error)}") from None
    except RecursionError:
        fix = "save it again from the config"
        raise UserError(f"{source} has lists or mappings inside of each other, deeper than any config", fix) from None


def _load_python(path: Path) -> DictConfig:
    with _ONE_LOADS:
        from detectron2.config import LazyConfig

        importer = builtins.__import__
        try:
            config = LazyConfig.load(str(path))
        except UserError:
            raise
        except (Exception, SystemExit) as error:
            raise _python_error(path, error) from error
        finally:
            # LazyConfig.load leaves its own importer in place when a config file fails.
            builtins.__import__ = importer
    if not config:
        raise UserError(f"{path} defines no config", "assign LazyCalls or dicts to names, such as model, train")
    return config


def _python_error(path: Path, error: Exception | SystemExit) -> UserError:
    """What a config file's exception says to its author: file, line, reason."""
    if isinstance(error, SyntaxError) and isinstance(error.__cause__, SyntaxError):
        cause = error.__cause__
        line = f", line {cause.lineno}" if cause.lineno else ""  # none where the whole file is no text
        text = f": {cause.text.strip()}" if cause.text else ""
        fix = AS_UTF_8 if "null bytes" in cause.msg else "correct the config file"
        if (cause.text or "").startswith(BYTE_ORDER_MARK):
            fix = "save it without the byte order mark that is before its first letter"
        return UserError(f"{str(error).rstrip('!.')}{line}: {cause.msg}{text}", fix)
    frames = list(traceback.walk_tb(error.__traceback__))
    if isinstance(error, UnicodeDecodeError) and (read := _read_by_detectron2(frames)):
        return UserError(f"{read} is {not_utf_8(error)}", AS_UTF_8)
    where, importing = str(path), []
    for frame, line in frames:
        if (frame.f_globals.get("__package__") or "").startswith("detectron2._cfg_loader"):
            where = f"{frame.f_code.co_filename}, line {line}"
            if frame.f_code.co_name == "<module>":
                importing.append(frame.f_code.co_filename)
    if len(circle := list(dict.fromkeys(importing))) < len(importing):
        names = " -> ".join([*circle, circle[0]])
        return UserError(f"config files import each other in a circle: {names}", "move what both need to a third file")
    if isinstance(error, SystemExit):
        fix = "a config file defines a config alone: leave out what ends Python"
        return UserError(f"{where}: SystemExit: {error.code}", fix)
    if frames[-1][0].f_code.co_name in ("new_import", "find_relative_file"):
        return _import_error(where, error, error.__traceback__)
    return UserError(f"{where}: {type(error).__name__}: {error}", "correct the config file")


def _read_by_detectron2(frames: list[tuple[FrameType, int]]) -> str | None:
    """The config file whose text detectron2 was reading as it failed."""
    read = [frame.f_locals["filename"] for frame, _ in frames if frame.f_code.co_name == "_validate_py_syntax"]
    return read[-1] if read else None


def _import_error(where: str, error: Exception, trace: TracebackType | None) -> UserError:
    """A relative import between config files that names a file or a node that isn't there."""
    local = [frame for frame, _ in traceback.walk_tb(trace)][-1].f_locals
    if isinstance(error, KeyError) and "module" in local:
        names = [name for name, value in vars(local["module"]).items() if OmegaConf.is_config(value)]
        source, name = local.get("cur_file"), error.args[0]
        fix = did_you_mean(nearest(name, names)) or f"it defines: {', '.join(names)}"
        return UserError(f"{where}: {source} has no {name}", fix)
    missing = Path(local.get("cur_file", ""))
    if isinstance(error, ImportError) and missing.suffix == ".py":
        return UserError(f"{where}: there is no config file {missing}", _near_files(missing))
    if isinstance(error, ModuleNotFoundError):
        return UserError(f"{where}: {error}", "install it, or put its folder on PYTHONPATH")
    return UserError(f"{where}: {error}", "import from another config file: from ..common.train import train")
