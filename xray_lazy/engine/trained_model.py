"""A trained model for use after training: found in its output folder, without the data that it was trained on."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from detectron2.config import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import nn

from xray_lazy.config import check_config, load_config, raise_faults
from xray_lazy.engine.checkpoint import Checkpointer, periodic_files
from xray_lazy.engine.checkpoint_evaluation.run_config import choose_device
from xray_lazy.engine.run_folder import CONFIG_NAME
from xray_lazy.errors import UserError


@dataclass(frozen=True)
class TrainedModel:
    """What is needed to use a model.

    Attributes:
        cfg: the resolved config of its training; `cfg.dataloader.test.mapper` says how pictures are prepared.
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
        UserError: there is no such run, no weights, no such device, or a fault of the config.
    """
    source, device = Path(source), choose_device(device)
    if source.is_dir():
        if not (source / CONFIG_NAME).is_file():
            raise UserError(f"{source} is not the output folder of a training: it has no {CONFIG_NAME}", _GIVE_A_RUN)
        weights = weights or str(find_weights(source))
    elif not weights:
        raise UserError(f"which weights for {source}?", "name their file or URL with --weights, or " + _GIVE_A_RUN)
    cfg = load_config(source / CONFIG_NAME if source.is_dir() else source, overrides)
    raise_faults([fault for fault in check_config(cfg) if fault.key.split(".")[0] == "model"])
    model = instantiate(cfg.model).to(device).eval().requires_grad_(False)
    checkpoint = Checkpointer(model).load(weights)
    names = _recorded_class_names(source) if source.is_dir() else ()
    return TrainedModel(cfg, model, device, names or _class_names_of_data(cfg), weights, checkpoint.get("iteration"))


def find_weights(run_folder: str | Path) -> Path:
    """The best weights of a run, else the final ones, else those of its newest checkpoint.

    Raises:
        UserError: it has none.
    """
    folder = Path(run_folder)
    candidates = [folder / "model_best.pth", folder / "model_final.pth", *periodic_files(folder)]
    for path in candidates:
        if path.is_file():
            return path
    raise UserError(f"there are no weights in {folder}", "wait for its first checkpoint, or name others with --weights")


_GIVE_A_RUN = "give the train.output_dir of a training"


def _recorded_class_names(run_folder: Path) -> tuple[str, ...]:
    try:
        datasets = json.loads((run_folder / "run.json").read_text()).get("datasets") or {}
    except (OSError, ValueError):
        return ()
    return tuple(next((facts["classes"] for facts in datasets.values() if facts.get("classes")), ()))


def _class_names_of_data(cfg: DictConfig) -> tuple[str, ...]:
    for loader in ("test", "train"):
        if OmegaConf.select(cfg, f"dataloader.{loader}.dataset") is not None:
            try:
                return tuple(instantiate(cfg.dataloader[loader].dataset).class_names)
            except (UserError, AttributeError):
                continue  # the data may have stayed where the model was trained
    return ()
