"""What the design promises about imports."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TOOLS = sorted((ROOT / "tools").glob("*.py"))


def test_dependencies_point_down():
    lint = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache", "--no-logo"]
    answer = subprocess.run(lint, cwd=ROOT, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stdout


def imported_modules(code: str) -> set[str]:
    answer = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nprint(*sys.modules)"], capture_output=True, text=True, check=True
    )
    return set(answer.stdout.splitlines()[-1].split())  # what the code itself printed comes before


@pytest.mark.parametrize("code", ["import xray_lazy", "import xray_lazy.config", "import xray_lazy.data"])
def test_importing_the_package_does_not_import_torch(code):
    assert not imported_modules(code) & {"torch", "detectron2", "cv2", "matplotlib"}


def test_the_library_runs_without_wandb():
    blocked = (
        "sys.modules['wandb'] = None\nfrom xray_lazy.config import get_config\nget_config('xray/mask_rcnn_r50.py')"
    )
    imported_modules(blocked + "\nimport xray_lazy.engine.experiment")


@pytest.mark.parametrize("tool", TOOLS, ids=lambda path: path.stem)
def test_help_comes_at_once_for_it_imports_no_package_but_ours(tool):
    code = f"""
import runpy
sys.argv = ['{tool.name}', '--help']
try:
    runpy.run_path({str(tool)!r}, run_name="__main__")
except SystemExit as end:
    assert end.code == 0
"""
    packages = {name.partition(".")[0] for name in imported_modules(code) - imported_modules("")}
    assert "xray_lazy" in packages and packages - set(sys.stdlib_module_names) == {"xray_lazy"}


def test_no_two_files_of_the_library_have_one_name():
    names = Counter(path.name for path in (ROOT / "xray_lazy").rglob("*.py"))
    assert [name for name, count in names.items() if count > 1] == ["__init__.py"]


def test_the_top_level_has_nothing_else():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if tracked.returncode:
        pytest.skip("not a git checkout")
    allowed = {"projects", "configs", "xray_lazy", "tools", "tests", "slurm", "benchmarks", "docs", "docker"}
    allowed |= {"pyproject.toml", "README.md", "Makefile", ".ci", ".gitignore"}
    allowed |= {"LICENSE", "CONTRIBUTING.md", "CHANGELOG.md", ".pre-commit-config.yaml", ".github"}
    assert {line.split("/")[0] for line in tracked.stdout.splitlines()} <= allowed
