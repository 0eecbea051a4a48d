"""What several tests of Sparse R-CNN need."""

import pytest
import torch

from tests.fixed_draws import pytest_runtest_logstart  # noqa: F401
from tests.gpu_marker import pytest_runtest_setup  # noqa: F401
from tests.log_files import close_log_files  # noqa: F401


@pytest.fixture
def one_thread():
    """With several threads sums are taken in another order, and where two costs are nearly equal, a match changes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
