"""Tests marked `slurm` run on the test cluster that SLURM_CONF names, and nowhere else."""

import os
import shutil
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.data.coco_sets import write_set


def pytest_collection_modifyitems(items):
    reason = missing_cluster()
    for item in items:
        if reason and item.get_closest_marker("slurm"):
            item.add_marker(pytest.mark.skip(reason=reason))


def missing_cluster():
    """Why there is no test cluster; "" where there is one. No test goes to a cluster that people work on."""
    if not shutil.which("sbatch"):
        return "SLURM is not installed; make slurm-up tells what to install"
    config = Path(os.environ.get("SLURM_CONF", ""))
    if not config.is_file() or "ClusterName=xraytest" not in config.read_text():
        return "SLURM_CONF is not that of the test cluster; make test-slurm brings it up"
    return ""


@pytest.fixture(scope="session")
def job_environment(tmp_path_factory):
    """What jobs inherit from the tests: the tiny set, and this checkout."""
    folder = tmp_path_factory.mktemp("tiny_set")
    write_set(folder, count=8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TINY_SET", str(folder))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("PYTHONPATH", str(ROOT))
        yield
