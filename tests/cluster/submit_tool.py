"""tools/submit.py on tiny runs, as a person types it."""

import subprocess
import sys

from tests.cluster.real_jobs import CONFIG, QUICK
from tests.conftest import ROOT

TOOL = str(ROOT / "tools" / "submit.py")


def command(*words):
    return [sys.executable, TOOL, *map(str, words)]


def run_tool(*words, code=0, **options):
    """Run the tool, which must end with this exit code; returns what it printed."""
    answer = subprocess.run(command(*words), capture_output=True, text=True, timeout=600, **options)
    text = answer.stdout + answer.stderr
    assert answer.returncode == code, text
    assert "Traceback" not in text
    return text


def submit(folder, *words, code=0):
    """Submit a tiny run that takes no time."""
    words = ("--config-file", CONFIG, *QUICK, "train.max_iter=2", *words)
    return run_tool(*words, f"train.output_dir={folder}", code=code)
