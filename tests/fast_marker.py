"""Which tests are fast: those of modules that name nothing that starts a process or trains a whole run."""

import functools
import re
from pathlib import Path

import pytest

STARTS_SOMETHING = re.compile(
    r"subprocess|multiprocessing|quick_processes|engine\.(run|test_run)\b|run_tool_here|small_training|job_environment"
    r"|train_small|wandb_service|playwright|execute_notebook|num_processes|max_iter|\bonnx\b"
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if not item.get_closest_marker("slow") and is_fast(item.path):
            item.add_marker("fast")


@functools.cache
def is_fast(module: Path) -> bool:
    return not STARTS_SOMETHING.search(module.read_text(encoding="utf-8"))
