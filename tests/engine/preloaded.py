"""All that a run on the CPU imports."""

import xray_lazy.engine.experiment
import xray_lazy.engine.preflight
import xray_lazy.engine.run
import xray_lazy.engine.run_folder  # noqa: F401
from xray_lazy.config import get_config

get_config("xray/mask_rcnn_r18_demo.py")
