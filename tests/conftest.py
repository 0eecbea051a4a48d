"""What the tests of several tools share."""

import os
import runpy
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings

from tests.data.coco_sets import write_set
from tests.fast_marker import pytest_collection_modifyitems  # noqa: F401
from tests.fixed_draws import pytest_runtest_logstart  # noqa: F401
from tests.gpu_marker import pytest_runtest_setup  # noqa: F401
from tests.log_files import close_log_files  # noqa: F401
from tests.wandb_service import serving

ROOT = Path(__file__).parent.parent
CHROMIUM = Path("/usr/bin/chromium")

# where a shell runs the tests in the background, Ctrl-C is ignored, and the tools that they start would inherit that
signal.signal(signal.SIGINT, signal.default_int_handler)

# an example may take as long as a busy machine needs for it
settings.register_profile("any_machine", deadline=None, derandomize=True)
settings.load_profile("any_machine")


@pytest.fixture(scope="session")
def tiny_set(tmp_path_factory):
    """The folder of the set that `tests/engine/tiny.py` reads in this process."""
    folder = tmp_path_factory.mktemp("tiny_set")
    write_set(folder, count=8)
    os.environ["TINY_SET"] = str(folder)
    return folder


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """The environment of a tool that runs `tests/engine/tiny.py` on a set of its own."""
    folder = tmp_path_factory.mktemp("tiny_set")
    write_set(folder, count=8)
    own = {"TINY_SET": str(folder), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    # a tool that inherits where this process's W&B service listens would depend on it
    return {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"} | own


@pytest.fixture
def run_tool_here(monkeypatch, capsys):
    """Run a tool in this process, which has imported all that one of its own would wait for.

    Called with path and arguments as a command line has them; gives exit code, stdout and stderr.
    """

    def run(path, *arguments) -> subprocess.CompletedProcess:
        command = [str(path), *map(str, arguments)]
        capsys.readouterr()
        with monkeypatch.context() as here, pytest.raises(SystemExit) as end:
            here.setattr(sys, "argv", command)
            here.setattr(sys, "path", list(sys.path))  # a tool adds the present folder
            runpy.run_path(str(path), run_name="__main__")
        return subprocess.CompletedProcess(command, end.value.code, *capsys.readouterr())

    return run


@pytest.fixture(scope="module")
def browser():
    """Debian's Chromium, in which pages are looked at."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM.is_file():
        pytest.skip("Debian's Chromium is not installed: apt install chromium")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield started
        started.close()


@pytest.fixture
def wandb_service(monkeypatch, tmp_path):
    """A stand-in of the W&B service that this process's clients, and its children's, are logged in to."""
    forget_wandb_set_up()
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    with serving() as service:
        for name, value in service.environment(tmp_path).items():
            monkeypatch.setenv(name, value)
        yield service
        forget_wandb_set_up()


def forget_wandb_set_up():
    """W&B keeps the server's address that it first saw for as long as its service process lives."""
    if "wandb" in sys.modules:
        sys.modules["wandb"].teardown()
    os.environ.pop("WANDB_SERVICE", None)
