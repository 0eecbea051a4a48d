"""Detection and instance segmentation of baggage items in X-ray scans, on detectron2 LazyConfigs.

Importing this package is cheap: torch and detectron2 are imported by the modules that use them.
"""

import warnings

from xray_lazy.interruption import end_tool_on_signals
from xray_lazy.python_calls import evaluate, predict, train

end_tool_on_signals()

# Warnings about detectron2's and pycocotools' own code: nothing that a user could do about them.
warnings.filterwarnings("ignore", message=r"`torch\.jit\.script", category=FutureWarning)
warnings.filterwarnings("ignore", message="pkg_resources is deprecated", category=UserWarning)
warnings.filterwarnings("ignore", message=r"torch\.meshgrid", category=UserWarning)
warnings.filterwarnings("ignore", message="The given NumPy array is not writable", category=UserWarning)
warnings.filterwarnings("ignore", message="__array__ implementation", category=DeprecationWarning)

__version__ = "0.1.0"
__all__ = ["evaluate", "predict", "train"]
