"""A writer that fails costs what it would have written, and nothing else."""

import json
import logging
import sys
from pathlib import Path

import pytest

from tests.engine.conftest import CONFIG
from xray_lazy.config import load_config
from xray_lazy.engine.output_folder.run_log import LogFile
from xray_lazy.engine.run import RunOptions, run
from xray_lazy.tracking.run_record import RunRecord

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


def deleting(*names):
    target = "_target_: tests.engine.hooks_for_tests.DeleteAt, iteration: 2, for_ever: false"
    return [f"+hooks.delete_{number}={{{target}, name: {name}}}" for number, name in enumerate(names)]


def test_files_that_a_run_needs_come_back_where_somebody_deletes_them(output):
    folder, overrides = output
    gone = ["config.yaml", "run.json", "log.txt", "metrics.json"]
    run(RunOptions(CONFIG, [*overrides, *QUICK, "train.log_period=1", *deleting(*gone)]))
    log = (folder / "log.txt").read_text()
    for name in gone:
        assert (folder / name).is_file() and log.count(f"{folder / name} was deleted") == 1
    assert load_config(folder / "config.yaml").train.max_iter == 4
    assert RunRecord.read(folder / "run.json").world_size == 1


def test_a_folder_that_is_deleted_has_what_a_resumed_run_needs_at_the_end(output):
    folder, overrides = output
    run(RunOptions(CONFIG, [*overrides, *QUICK, "train.log_period=1", *deleting(".")]))
    names = {"config.yaml", "run.json", "log.txt", "metrics.json", "model_final.pth", "last_checkpoint", "tensorboard"}
    assert names <= {path.name for path in folder.iterdir()}
    longer = [*overrides, *QUICK[1:], "train.max_iter=5"]
    run(RunOptions(CONFIG, longer, resume=True, overwrite=True))


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


def test_a_log_that_the_disk_refuses_is_one_warning_and_no_traceback(capfd):
    file, logger = LogFile(Path("/dev/full")), logging.getLogger("xray_lazy.test_of_a_full_disk")
    parent = logging.getLogger("xray_lazy.engine.output_folder.run_log")
    console = logging.StreamHandler(sys.stderr)
    for each in (logger, parent):
        each.addHandler(file)
        each.addHandler(console)
    try:
        for number in range(3):
            logger.warning("line %s", number)
    finally:
        for each in (logger, parent):
            each.removeHandler(file)
            each.removeHandler(console)
    printed = capfd.readouterr().err
    assert "Traceback" not in printed and "line 2" in printed
    assert printed.count("can't write /dev/full, it misses what the console has: [Errno 28]") == 1
