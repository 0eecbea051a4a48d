"""The matrix of scanners in the report of runs that were tested on several sets."""

import json

import pytest

from tests.report.made_run import make_run
from tests.report.test_report import table
from xray_lazy.config import load_config, save_config
from xray_lazy.report.run_files import read_run
from xray_lazy.report.write import make_tabs

CELLS = {"smith": (80.0, 40.0), "rapiscan": (20.0, 60.0)}  # by what was trained on, on smith and rapiscan


@pytest.fixture
def runs(data, tmp_path, monkeypatch):
    """Two runs whose logs have figures of two sets."""
    folders = []
    for trained, cells in CELLS.items():
        folder = make_run(tmp_path / trained, monkeypatch)
        cfg = load_config(folder / "config.yaml")
        cfg.dataloader.train.dataset.names = f"xray_{trained}_train"
        save_config(cfg, folder / "config.yaml")
        record = json.loads((folder / "run.json").read_text())
        record.pop("config", None)
        (folder / "run.json").write_text(json.dumps(record))
        *others, last = (folder / "metrics.json").read_text().splitlines()
        sets = dict(zip(CELLS, cells, strict=True))
        line = json.loads(last) | {f"{name}/segm/AP": value for name, value in sets.items()}
        line |= {f"{name}/screening/P_D@5": value / 2 for name, value in sets.items()}
        (folder / "metrics.json").write_text("".join(f"{one}\n" for one in [*others, json.dumps(line)]))
        folders.append(folder)
    return folders


def blocks_of(folders):
    tabs = {tab.id: tab.blocks for tab in make_tabs([read_run(folder) for folder in folders])}
    return tabs.get("screening", [])


def cells_of(folders, title):
    return [[cell.text for cell in row] for row in table(blocks_of(folders), f"Across scanners: {title}").rows]


def test_rows_are_training_sets_and_columns_test_sets_with_means(runs):
    assert cells_of(runs, "Mask AP") == [
        ["smith", "smith", "80.0", "40.0", "60.0", "40.0"],
        ["rapiscan", "rapiscan", "20.0", "60.0", "40.0", "20.0"],
    ]
    assert cells_of(runs, "P_D at a P_FA of 5 %")[0] == ["smith", "smith", "40.0", "20.0", "30.0", "20.0"]
    assert cells_of(runs[:1], "Mask AP") == [["smith", "smith", "80.0", "40.0", "60.0", "40.0"]]


def test_it_needs_no_data_at_hand(runs, data):
    (data / "annotations.json").unlink()
    assert len(cells_of(runs, "Mask AP")) == 2


def test_runs_of_one_test_set_have_none(run):
    assert not any("Across scanners" in getattr(block, "title", "") for block in blocks_of([run]))
