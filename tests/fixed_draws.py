"""What a test draws without a seed of its own is the same whatever tests ran before it, in whatever process."""

import random
import sys


def pytest_runtest_logstart() -> None:
    """Comes before the fixtures of a test, also those that others share."""
    random.seed(0)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)
