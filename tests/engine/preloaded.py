"""All that a run on the CPU imports."""

from xray_lazy.config import get_config

get_config("xray/mask_rcnn_r18_demo.py")
