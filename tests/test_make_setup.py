"""`make setup` goes on where an earlier one was interrupted."""

import shutil
import subprocess

from tests.conftest import ROOT

PYTHON_OF_VENV = """#!/bin/sh
case "$*" in "-m pip"*) test -e pip_is_there;; esac
"""


def test_an_environment_that_was_left_without_pip_gets_it(tmp_path):
    for name in ("Makefile", "pyproject.toml", ".ci/constraints.txt", "xray_lazy/install_detectron2.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    for name, script in ((".venv/bin/python", PYTHON_OF_VENV), ("python", "#!/bin/sh\necho $* >> pip_is_there\n")):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(script)
        path.chmod(0o755)
    for _ in range(2):  # another setup has nothing left to do
        answer = subprocess.run(["make", "setup", "PYTHON=./python"], cwd=tmp_path, capture_output=True, text=True)
        assert answer.returncode == 0, answer.stderr
    assert (tmp_path / "pip_is_there").read_text() == "-m venv .venv\n"
