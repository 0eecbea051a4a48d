"""Where a training step makes the host wait for a GPU."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SCRIPT = """
import json, sys
from benchmarks.host_waits import our_waits, stand_in_device
import torch
with stand_in_device() as waits:
    x = torch.arange(4.0).to("standin", non_blocking=True)
    positive = x[x > 1]
    x[x > 1] = 0
    x[torch.tensor([0], device="standin")] = 1
    seen = [positive.tolist(), x.tolist(), float(x.sum()), x.cpu().device.type, x.device.type]
json.dump({"seen": seen, "examples": waits.total(), "step": our_waits(sys.argv[1])}, sys.stdout)
"""
OURS = re.compile(r"(?:sparse_rcnn|xray_lazy)/((?:sparse_rcnn|engine|modeling|data)/\w+\.py):\d+ (\w+)")
EXPECTED = {
    "projects/sparse_rcnn/sparse_rcnn_tiny_demo.py": {
        # what the assignment problem is solved with
        "sparse_rcnn/matching.py __call__": 1,
    },
    "xray/mask_rcnn_r18_demo.py": {
        # NMS of each of 2 images, how many proposals it leaves, and how many of objects are drawn of them
        "modeling/region_proposals.py nms_by_level": 2,
        "modeling/region_proposals.py best_proposals": 1,
        "modeling/picture_sampling.py label_and_sample_proposals": 1,
    },
}


@pytest.mark.parametrize("config", EXPECTED)
def test_a_step_waits_only_where_the_host_needs_what_the_gpu_knows(config):
    # in a process of its own: torch can't forget the kind of device
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, config],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["seen"] == [[2, 3], [1, 1, 0, 0], 2, "cpu", "standin"]
    # a mask as an index, `torch.tensor` on the device, a number at a place; two lists, a number and a copy
    assert found["examples"] == 7
    assert sum(found["step"].values()) == sum(EXPECTED[config].values())  # none in detectron2's parts
    waits: dict[str, int] = {}
    for site, count in found["step"].items():
        if match := OURS.search(site):
            place = " ".join(match.groups())
            waits[place] = waits.get(place, 0) + count
    assert waits == EXPECTED[config]
