"""The demo's config, loaded once in a process: copying it takes a tenth of the time."""

import copy
import functools

from xray_lazy.config import get_config


def demo_config():
    """A copy that shares nothing with others."""
    return copy.deepcopy(_demo())


@functools.cache
def _demo():
    return get_config("xray/mask_rcnn_r18_demo.py")
