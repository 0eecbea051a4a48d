"""A writer that fails costs what it would have written, and nothing else."""

import json

import pytest

from tests.engine.conftest import CONFIG
from xray_lazy.engine.run import RunOptions, run

QUICK = ["train.max_iter=4", "~hooks.evaluation", "~hooks.report", "~hooks.prediction_pictures", "train.device=cpu"]


WARNINGS = {
    "tensorboard": "was deleted: TensorBoard has the numbers from here on only",
    "metrics.json": "the writer json fails, training goes on without what it misses",
}


@pytest.mark.parametrize("gone", WARNINGS)
def test_what_a_writer_writes_to_goes_away_and_training_goes_on(output, gone):
    folder, overrides = output
    hook = f"+hooks.delete={{_target_: tests.engine.hooks_for_tests.DeleteAt, iteration: 2, name: {gone}}}"
    run(RunOptions(CONFIG, [*overrides, *QUICK, "train.log_period=1", hook]))
    assert (folder / "model_final.pth").is_file()
    log = (folder / "log.txt").read_text()
    assert [log.count(words) for words in WARNINGS.values()] == [int(name == gone) for name in WARNINGS]
    if gone == "tensorboard":
        assert list((folder / gone).iterdir())
        lines = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
        assert [line["iteration"] for line in lines] == [0, 1, 2, 3]


def test_lines_that_could_not_be_written_come_with_the_next_ones(tmp_path):
    from detectron2.utils.events import EventStorage

    from xray_lazy.tracking.json_lines import JsonWriter

    writer = JsonWriter(str(tmp_path / "metrics.json"))
    (tmp_path / "metrics.json").mkdir()
    with EventStorage() as storage:
        storage.put_scalar("loss", 1.0)
        with pytest.raises(IsADirectoryError):
            writer.write()
        (tmp_path / "metrics.json").rmdir()
        storage.step()
        storage.put_scalar("loss", 1.0)
        writer.write()
    lines = (tmp_path / "metrics.json").read_text().splitlines()
    assert [json.loads(line)["iteration"] for line in lines] == [0, 1]
