"""One rank that fails ends all at once, wherever it is, with one message."""

import pytest

from tests.engine.conftest import CONFIG
from tests.engine.quick_processes import start_group
from tests.patience import exit_codes
from xray_lazy.engine.run import RunOptions, run
from xray_lazy.errors import RunFailure
from xray_lazy.failure import FAILURE_FILE, read_failure

PLACES = ["start", "reader", "forward", "evaluation", "saving"]


def overrides_of(output, place):
    _, overrides = output
    fail = f"+hooks.fail={{_target_: tests.engine.unruly_parts.FailIn, place: {place}}}"
    readers = ["dataloader.train.num_workers=1"] if place == "reader" else []
    return [*overrides, "~hooks.prediction_pictures", "~writers.tensorboard", *readers, fail]


@pytest.mark.parametrize("place", PLACES)
def test_of_two_processes_that_another_launcher_has_started(output, tmp_path, place):
    log = tmp_path / "log.txt"
    group = start_group(run, RunOptions(CONFIG, overrides_of(output, place)), processes=2, log=log)
    assert exit_codes(group, log) == [1, 1], log.read_text()
    assert log.read_text().count(f"gives up: {place}") == 1 and "Traceback" not in log.read_text(), log.read_text()
    told = read_failure(output[0] / FAILURE_FILE)
    if place == "start":  # the folder is not yet the run's
        assert told is None
    else:
        assert told.message.endswith(f"gives up: {place}") and told.exit_code == 1
        assert told.rank == (0 if place == "saving" else 1)


@pytest.mark.slow
@pytest.mark.parametrize("place", ["start", "evaluation"])
def test_of_two_processes_of_our_launcher(output, place):
    with pytest.raises(RunFailure, match=f"gives up: {place}"):
        run(RunOptions(CONFIG, overrides_of(output, place), num_processes=2))
    told = read_failure(output[0] / FAILURE_FILE)
    assert (told and told.rank) == (1 if place == "evaluation" else None)
