"""What works from a checkout works from a wheel."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
PLACES = ("configs/xray", "configs/benchmarks", "projects/*/configs")
EXPERIMENTS = [path for place in PLACES for path in ROOT.glob(f"{place}/*.py")]


def test_a_wheel_has_its_configs_its_license_and_says_that_it_is_typed(tmp_path):
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path, ROOT]
    subprocess.run(build, check=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        wheel.extractall(tmp_path / "site")
    assert (tmp_path / "site" / "xray_lazy" / "py.typed").exists()
    assert [*(tmp_path / "site").glob("xray_lazy-*.dist-info/licenses/LICENSE")]
    (script,) = (tmp_path / "site").glob("xray_lazy-*.dist-info/entry_points.txt")
    assert "xray-lazy = xray_lazy.xray_command:main" in script.read_text()
    code = (
        "import xray_lazy, xray_lazy.config as c; print(xray_lazy.__file__);"
        "print(c.get_config('xray/sparse_rcnn_r50.py').model.num_proposals, len(c.config_names()), c.preset_names()[0])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 0, answer.stderr
    location, numbers = answer.stdout.splitlines()
    assert location.startswith(str(tmp_path)) and numbers == f"100 {len(EXPERIMENTS)} anomaly"
