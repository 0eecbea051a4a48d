"""The report of the environment, run as a user runs it."""

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from xray_lazy import env

ROOT = Path(__file__).parents[1]


def report(python=sys.executable, before: str = "", **variables: str) -> subprocess.CompletedProcess:
    """Run `python -m xray_lazy.env`, `before` that some statements in the same process."""
    code = f"{before}\nimport runpy\nrunpy.run_module('xray_lazy.env', run_name='__main__')"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200", **variables}
    return subprocess.run([python, "-c", code], capture_output=True, text=True, env=environment)


def test_a_complete_installation_can_train():
    result = report()
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stderr == ""
    for name in ("torch", "detectron2", "W&B", "SLURM", "disk", "training can run"):
        assert name in result.stdout


def test_without_detectron2_it_names_the_command_that_installs_it():
    result = report(before="import sys; sys.modules['detectron2'] = None")
    assert result.returncode == 2
    assert "fix: python -m xray_lazy.install_detectron2" in result.stdout
    assert "training can't run: 1 problem to fix" in result.stdout
    assert "Traceback" not in result.stderr


def test_a_torchvision_built_for_another_torch_is_one_problem(tmp_path):
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text(
        "raise RuntimeError('operator torchvision::nms does not exist')"
    )
    result = report(PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
    assert result.returncode == 2
    assert "does not load: operator torchvision::nms does not exist" in result.stdout
    assert "fix: pip install --force-reinstall torch torchvision" in result.stdout
    assert "1 problem to fix" in result.stdout


def test_a_broken_torch_does_not_break_the_report(tmp_path):
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise OSError('libcudart.so.13: cannot open shared object file')")
    result = report(PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
    assert result.returncode == 2
    assert "does not load: libcudart.so.13" in result.stdout
    assert "1 problem to fix" in result.stdout
    assert result.stderr == ""


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory) -> Path:
    """A Python in which nothing is installed."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, with_pip=False)
    return folder / "bin" / "python"


def test_an_empty_folder_named_wandb_is_not_wandb(bare_python, tmp_path):
    (tmp_path / "wandb").mkdir()
    result = report(bare_python, PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
    assert "wandb is not installed\n  fix: pip install wandb" in result.stdout


def test_data_sets_are_named(bare_python, tmp_path):
    annotations = tmp_path / "annotations" / "smith"
    annotations.mkdir(parents=True)
    (annotations / "val.json").write_text("{}")
    assert "xray_smith_val" in report(bare_python, XRAY_DATASETS=str(tmp_path)).stdout


def test_a_python_without_any_package_lists_what_to_install(bare_python):
    result = report(bare_python)
    assert result.returncode == 2
    assert result.stderr == ""
    for command in ("pip install torch", "python -m xray_lazy.install_detectron2", 'pip install "setuptools<81"'):
        assert f"fix: {command}\n" in result.stdout


def test_versions_do_not_import_torch():
    code = "import sys; from xray_lazy import env; env.versions(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
    assert env.versions()["torch"] and env.versions()["python"]


def test_devices_name_at_least_the_cpu():
    assert env.devices() and all(env.devices())


@pytest.fixture
def logged_out(monkeypatch, tmp_path):
    for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_BASE_URL", "WANDB_CONFIG_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    return monkeypatch


def test_the_wandb_log_in_is_found_in_the_environment_and_in_netrc(logged_out, tmp_path):
    assert env.wandb_login() is None
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password 0123456789\n")
    assert env.wandb_login() == str(tmp_path / "netrc")
    logged_out.setenv("WANDB_API_KEY", "0123456789")
    assert env.wandb_login() == "WANDB_API_KEY"


def test_the_wandb_log_in_is_that_of_the_server_in_use(logged_out, tmp_path):
    (tmp_path / "netrc").write_text("machine wandb.example.org login user password 0123456789\n")
    assert env.wandb_login() is None
    (tmp_path / ".config" / "wandb").mkdir(parents=True)
    (tmp_path / ".config" / "wandb" / "settings").write_text("[default]\nbase_url = https://wandb.example.org\n")
    assert env.wandb_login()
