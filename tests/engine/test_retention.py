"""Which periodic checkpoints stay."""

import pytest

from tests.engine.hooks_for_tests import StopAt
from tests.engine.small_training import train_small
from xray_lazy.engine.hooks.periodic_checkpoint import PeriodicCheckpoint


def periodic(folder):
    """Iterations that are done in the periodic files."""
    return [int(path.stem.removeprefix("model_")) + 1 for path in sorted(folder.glob("model_0*.pth"))]


@pytest.mark.parametrize(
    ("max_to_keep", "keep_every", "stay"),
    [(2, 0, [8, 9]), (1, 4, [4, 8, 9]), (3, 2, [2, 4, 6, 7, 8, 9]), (0, 0, list(range(1, 10)))],
)
def test_the_newest_stay_and_every_so_many(tmp_path, max_to_keep, keep_every, stay):
    train_small(tmp_path, {"checkpoint": PeriodicCheckpoint(1, max_to_keep, keep_every)}, 10)
    assert periodic(tmp_path) == stay
    assert (tmp_path / "last_checkpoint").read_text() == "model_final.pth"


def test_the_file_to_resume_from_stays_where_a_damaged_one_has_a_higher_number(tmp_path):
    (tmp_path / "model_0000099.pth").write_bytes(b"damaged")
    train_small(tmp_path, {"checkpoint": PeriodicCheckpoint(period=1, max_to_keep=1)}, 10, stop_at=3)
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000002.pth"
    assert periodic(tmp_path) == [3, 100]


def test_of_files_at_other_iterations_the_next_ones_stay(tmp_path):
    train_small(tmp_path, {"checkpoint": PeriodicCheckpoint(period=2, max_to_keep=1, keep_every=5)}, 21)
    assert periodic(tmp_path) == [6, 10, 16, 20]


def test_a_file_that_a_stop_has_left_does_not_stay(tmp_path):
    hooks = {"stop": StopAt(4), "checkpoint": PeriodicCheckpoint(period=2, max_to_keep=1, keep_every=4)}
    train_small(tmp_path, hooks, 12)
    assert periodic(tmp_path) == [4, 5]
    train_small(tmp_path, {"checkpoint": hooks["checkpoint"]}, 12, resume=True)
    assert periodic(tmp_path) == [4, 8, 10]
