"""What can be known of the image without building it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
TEXT = (DOCKER / "Dockerfile").read_text(encoding="utf-8")
STAGES = {
    name: body
    for _, name, body in re.findall(r"^FROM (\S+) AS (\S+)\n(.*?)(?=^FROM |\Z)", TEXT, re.MULTILINE | re.DOTALL)
}


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("hadolint", path=str(Path(sys.executable).parent)), reason="hadolint is not here")
def test_the_linter_has_nothing_to_say():
    linter = Path(sys.executable).parent / "hadolint"
    result = subprocess.run([linter, DOCKER / "Dockerfile"], capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, "")


@pytest.mark.parametrize("stage", ["cpu-packages", "cuda-packages"])
def test_packages_do_not_depend_on_the_code(stage):
    copied = re.findall(r"^COPY (.*)$", STAGES[stage], re.MULTILINE)
    assert copied == [
        ".ci/constraints.txt xray_lazy/install_detectron2.py /opt/setup/",
        "--from=requirements /requirements/requirements.txt /opt/setup/",
    ]


@pytest.mark.parametrize("stage", ["cpu", "cuda"])
def test_the_image_runs_as_no_root(stage):
    users = re.findall(r"^USER (\S+)$", STAGES[stage], re.MULTILINE)
    assert users == ["1000:1000"]
    assert STAGES[stage].index("USER") > STAGES[stage].index("RUN")


def test_requirements_are_those_of_the_project():
    tomllib = pytest.importorskip("tomllib")  # the script is for the image's Python, 3.11
    command = [sys.executable, DOCKER / "requirements.py", ROOT / "pyproject.toml"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    served = project["optional-dependencies"]["serve"]
    assert {*project["dependencies"], *served, "jupyterlab", "hatchling"} < set(lines)
    assert any(line.startswith("onnxruntime") for line in lines)


PRIVATE = (".env", "xray_lazy/.env.local", "datasets/a.jpg", "output/model.pth", ".git/config", "wandb/x", ".venv/x")


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    """What Docker would send of a checkout that has data, results and a secret in it, as its Python client tells."""
    build = pytest.importorskip("docker.utils.build")
    root = tmp_path_factory.mktemp("checkout")
    for name in ("configs", "projects", "tools", "xray_lazy", "docker", "docs", ".ci"):
        shutil.copytree(ROOT / name, root / name)
    shutil.copy(ROOT / "pyproject.toml", root)
    for name in PRIVATE:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("secret")
    lines = (DOCKER / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    return {name for name in build.exclude_paths(str(root), patterns) if not os.path.isdir(root / name)}


def test_no_data_result_or_secret_gets_into_the_image(context):
    assert [name for name in context if name in PRIVATE or "__pycache__" in name or "tests" in Path(name).parts] == []


def test_all_code_gets_into_the_image(context):
    folders = [ROOT / name for name in ("xray_lazy", "tools", "configs")]
    code = {str(path.relative_to(ROOT)) for folder in folders for path in folder.rglob("*.py")}
    assert sorted(code - context) == []
    assert {"pyproject.toml", ".ci/constraints.txt", "docker/requirements.py", "docs/tutorial.ipynb"} <= context


def test_services_use_targets_that_are_there_and_listen_here_only():
    compose = yaml.safe_load((DOCKER / "compose.yaml").read_text(encoding="utf-8"))
    gpu = yaml.safe_load((DOCKER / "compose.gpu.yaml").read_text(encoding="utf-8"))
    assert set(compose["services"]) == {"train", "jupyter", "tensorboard"} == set(gpu["services"])
    for service in [*compose["services"].values(), *gpu["services"].values()]:
        assert service["build"]["target"] in STAGES
    for service in compose["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
    assert (DOCKER / compose["services"]["train"]["build"]["context"]).resolve() == ROOT
