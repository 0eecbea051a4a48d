"""Two runs are told apart by their last bit."""

import json

import pytest
import torch

from benchmarks.compare_commits import first_difference


def leave_run(folder, losses=(1.0, 0.5), **weights):
    folder.mkdir()
    lines = [{"iteration": number, "total_loss": loss, "time": folder.name} for number, loss in enumerate(losses)]
    (folder / "metrics.json").write_text("\n".join(map(json.dumps, lines)))
    torch.save({"model": {"layer": torch.ones(2)} | weights}, folder / "model_final.pth")
    return folder


NEXT_TO_ONE = torch.nextafter(torch.tensor(1.0), torch.tensor(2.0))
NEXT_TO_HALF = float(NEXT_TO_ONE) / 2


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({}, None),
        ({"losses": (1.0, NEXT_TO_HALF)}, "iteration 1: total_loss is 0.5"),
        ({"losses": (1.0,)}, "2 lines of metrics before, 1 after"),
        ({"layer": torch.stack([torch.tensor(1.0), NEXT_TO_ONE])}, "weights: layer differs by up to 1.19e-07"),
        ({"layer": torch.ones(3)}, "weights: layer differs in shape"),
        ({"more": torch.ones(1)}, "weights: more is only there after"),
    ],
)
def test_the_first_difference_of_two_runs_is_named(tmp_path, other, words):
    found = first_difference(leave_run(tmp_path / "before"), leave_run(tmp_path / "after", **other))
    assert found == words if words is None else words in found
