"""Detection and instance segmentation of baggage items in X-ray scans, on detectron2 LazyConfigs.

Importing this package is cheap: torch and detectron2 are imported by the modules that use them.
"""

import importlib
import warnings

from xray_lazy.utils.interruption import end_tool_on_signals

end_tool_on_signals()

# Warnings about detectron2's and pycocotools' own code: nothing that a user could do about them.
warnings.filterwarnings("ignore", message=r"`torch\.jit\.script", category=FutureWarning)
warnings.filterwarnings("ignore", message="pkg_resources is deprecated", category=UserWarning)
warnings.filterwarnings("ignore", message=r"torch\.meshgrid", category=UserWarning)
warnings.filterwarnings("ignore", message="The given NumPy array is not writable", category=UserWarning)
warnings.filterwarnings("ignore", message="__array__ implementation", category=DeprecationWarning)

__version__ = "0.1.0"
__all__ = ["evaluate", "predict", "train"]


def __getattr__(name: str):
    if name in __all__:
        return getattr(importlib.import_module("xray_lazy.python_calls"), name)
    raise AttributeError(f"module {__name__} has no attribute {name}")
