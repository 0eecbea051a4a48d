"""Ready sets of changes to a config, by name: `configs/presets/<name>.yaml`."""

import copy
from collections.abc import Sequence

from omegaconf import DictConfig, OmegaConf

from xray_lazy.config.load import config_folder
from xray_lazy.config.suggest import did_you_mean, nearest
from xray_lazy.config.yaml_format import parse_yaml
from xray_lazy.errors import UserError


def apply_presets(config: DictConfig, names: Sequence[str]) -> DictConfig:
    """A copy of `config` with presets applied in their order; each adds its name to `train.output_dir`.

    A preset is a mapping from dotted keys to values, which replace what is there or are added; an empty list
    only empties what is there, as a mapper of one's own may lack what ours has. The output folder of its own keeps a
    look at an experiment apart from the experiment.

    Raises:
        UserError: there is no such preset (near names are given).
    """
    changed = copy.deepcopy(config)
    for name in names:
        for key, value in _read(name).items():
            if value == [] and OmegaConf.select(changed, key) is None:
                continue
            OmegaConf.update(changed, key, value, merge=False, force_add=True)
        if OmegaConf.select(changed, "train.output_dir"):
            changed.train.output_dir += f"_{name}"
    return changed


def preset_names() -> list[str]:
    """The presets that there are."""
    return sorted(path.stem for path in (config_folder() / "presets").glob("*.yaml"))


def _read(name: str) -> dict:
    if name not in preset_names():
        near = did_you_mean(nearest(name, preset_names()))
        raise UserError(f"there is no preset {name}", near or f"there are: {', '.join(preset_names())}")
    path = config_folder() / "presets" / f"{name}.yaml"
    return parse_yaml(path.read_text(encoding="utf-8"), str(path))
