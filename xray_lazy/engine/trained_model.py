"""A trained model for use after training: found in its output folder, without the data that it was trained on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detectron2.config import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import nn

from xray_lazy.config import check_config, load_config, raise_faults
from xray_lazy.config.keys import is_within
from xray_lazy.config.override_grammar import parse_override
from xray_lazy.config.plain_lists import make_lists_plain
from xray_lazy.engine.checkpoint import load_trained_weights
from xray_lazy.engine.checkpoint_evaluation.run_config import choose_device
from xray_lazy.engine.output_folder.earlier_run import recorded_classes
from xray_lazy.engine.preflight.required_nodes import check_calls
from xray_lazy.engine.preflight.setting_limits import check_settings
from xray_lazy.engine.preflight.unbuildable import build
from xray_lazy.errors import UserError
from xray_lazy.run_folder import RunFolder

USED = ("model", "dataloader.test.mapper")  # of a config, after its training
NAMES_AND_PLACES = ("dataloader.root", "dataloader.test.dataset", "dataloader.train.dataset", "train.output_dir")


@dataclass(frozen=True)
class TrainedModel:
    """What is needed to use a model.

    Attributes:
        cfg: the resolved config of its training; `cfg.dataloader.test.mapper` says how images are prepared.
        model: in evaluation mode on `device`, without gradients; takes detectron2's dicts, gives `Instances`.
        class_names: by index; empty where nothing tells them.
        weights: file or URL that the weights came from.
        iteration: that they were saved after, counted from 0; None where the file does not say.
    """

    cfg: DictConfig
    model: nn.Module
    device: str
    class_names: tuple[str, ...]
    weights: str
    iteration: int | None


def load_trained_model(
    source: str | Path, weights: str | None = None, overrides: Sequence[str] = (), device: str = "auto"
) -> TrainedModel:
    """Build a model and load its weights.

    Args:
        source: the output folder of a training, or a config file.
        weights: file or URL; by default the folder's best, else its last ones.
        overrides: of the config, such as `model.roi_heads.box_predictor.test_score_thresh=0.3`.
        device: "auto" (a GPU if there is one), "cpu", "cuda" or "cuda:1".

    Raises:
        UserError: there is no such run, no weights or none that fit, no such device, or a fault of the config.
    """
    source, device = Path(source), choose_device(device)
    cfg = load_model_config(source, overrides)
    raise_faults(list(check_calls(cfg, USED)))
    if not weights and not source.is_dir():
        raise UserError(f"which weights for {source}?", "name their file or URL with --weights, or " + _GIVE_A_RUN)
    weights = weights or str(find_weights(source))
    model = build("model", cfg.model).to(device).eval().requires_grad_(False)
    make_lists_plain(model)
    checkpoint = load_trained_weights(model, weights, named_by="--weights")
    names = recorded_classes(source) if source.is_dir() else ()
    names = names or tuple(checkpoint.get("class_names") or ()) or _class_names_of_data(cfg)
    return TrainedModel(cfg, model, device, names, weights, checkpoint.get("iteration"))


def load_model_config(source: Path, overrides: Sequence[str] = ()) -> DictConfig:
    """The config of an output folder, or in a file, whose model can be built.

    Raises:
        UserError: there is none, or its model or the mapper of its images has faults.
    """
    path = RunFolder(source).config if source.is_dir() else source
    if source.is_dir() and not path.is_file():
        raise UserError(f"{source} is not the output folder of a training: it has no {path.name}", _GIVE_A_RUN)
    if path.suffix not in (".py", ".yaml", ".yml"):
        raise UserError(f"{source} is neither an output folder nor a config", f"{_GIVE_A_RUN}, or a config")
    cfg = load_config(path, overrides)
    raise_faults(list(check_calls(cfg, ("model",))))
    _refuse_idle(path, overrides, cfg)
    raise_faults([fault for fault in check_config(cfg) if is_within(fault.key, USED)])
    raise_faults(check_settings(cfg, USED))
    return cfg


def find_weights(run_folder: str | Path) -> Path:
    """The best weights of a run, else the final ones, else those of its newest checkpoint.

    Raises:
        UserError: it has none.
    """
    for path in RunFolder(run_folder).weights():
        return path
    fix = "wait for its first checkpoint, or name others with --weights"
    raise UserError(f"there are no weights in {run_folder}", fix)


def _refuse_idle(path: Path, overrides: Sequence[str], cfg: DictConfig) -> None:
    """An override that changes nothing of what is used here was meant to do something."""
    elsewhere = [text for text in overrides if not is_within(parse_override(text).key, (*USED, *NAMES_AND_PLACES))]
    if not elsewhere:
        return
    without = load_config(path, [text for text in overrides if text not in elsewhere])
    if all(_resolved(cfg, node) == _resolved(without, node) for node in USED):
        keys = ", ".join(parse_override(text).key for text in elsewhere)
        raise UserError(
            f"{keys} plays no part once a model is trained", f"keys of {' and '.join(USED)} do; leave it out"
        )


def _resolved(cfg: DictConfig, node: str) -> Any:
    value = OmegaConf.select(cfg, node)
    return None if value is None else OmegaConf.to_container(value, resolve=True)


_GIVE_A_RUN = "give the train.output_dir of a training"


def _class_names_of_data(cfg: DictConfig) -> tuple[str, ...]:
    for loader in ("test", "train"):
        if OmegaConf.select(cfg, f"dataloader.{loader}.dataset") is not None:
            try:
                return tuple(instantiate(cfg.dataloader[loader].dataset).class_names)
            except (UserError, AttributeError):
                continue  # the data may have stayed where the model was trained
    return ()
