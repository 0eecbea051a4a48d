"""What the searches before a training need: a checked config and a device."""

import logging
import sys
from collections.abc import Sequence

from omegaconf import DictConfig

from xray_lazy.engine.prepare import prepare
from xray_lazy.errors import UserError


def load_for_search(config_file: str, overrides: Sequence[str], needs_gpu: bool = False) -> tuple[DictConfig, str]:
    """The config, checked as for a training in one process, and the device to train on.

    Raises:
        UserError: any fault of config, data, weights or device; with `needs_gpu`, that there is none.
    """
    from xray_lazy.engine.output_folder.run_log import TALKATIVE
    from xray_lazy.engine.preflight.preflight import check_experiment

    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    logging.getLogger("xray_lazy").setLevel(logging.INFO)
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(logging.ERROR)
    prepared = prepare(config_file, overrides, find_faults=lambda found: check_experiment(found.cfg, world_size=1))
    if needs_gpu and prepared.plan.device != "cuda":
        raise UserError(
            "this search needs a GPU: on a CPU no batch fails, it only gets slower",
            "run it on a machine with a GPU; on a CPU, dataloader.train.total_batch_size=2 is a fair start",
        )
    return prepared.cfg, prepared.plan.device
