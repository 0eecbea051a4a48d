"""Load, override, check and save detectron2 LazyConfigs.

Importing this package is cheap: omegaconf, hydra and torch are imported by the functions that use them.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xray_lazy.config.arguments import parse_with_overrides
    from xray_lazy.config.check import check_config
    from xray_lazy.config.faults import Fault, raise_faults
    from xray_lazy.config.keys import diff_configs, flatten, keys_missing_in
    from xray_lazy.config.load import config_names, from_yaml, get_config, load_config
    from xray_lazy.config.overrides import apply_overrides
    from xray_lazy.config.presets import apply_presets, preset_names
    from xray_lazy.config.save import save_config, to_yaml

__all__ = [
    "Fault",
    "apply_overrides",
    "apply_presets",
    "check_config",
    "config_names",
    "diff_configs",
    "flatten",
    "from_yaml",
    "get_config",
    "keys_missing_in",
    "load_config",
    "parse_with_overrides",
    "preset_names",
    "raise_faults",
    "save_config",
    "to_yaml",
]

_MODULE_OF = {
    "Fault": "faults",
    "apply_overrides": "overrides",
    "apply_presets": "presets",
    "check_config": "check",
    "config_names": "load",
    "diff_configs": "keys",
    "keys_missing_in": "keys",
    "flatten": "keys",
    "from_yaml": "load",
    "get_config": "load",
    "load_config": "load",
    "parse_with_overrides": "arguments",
    "preset_names": "presets",
    "raise_faults": "faults",
    "save_config": "save",
    "to_yaml": "save",
}


def __getattr__(name: str):
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
