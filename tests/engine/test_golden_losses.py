"""The first losses of each demo config are those on file.

`python -m tests.engine.test_golden_losses` writes `golden_losses.json` anew, where they change on purpose. For equality
to the last bit of two commits on one machine: `benchmarks/compare_commits.py`.
"""

import json
import tempfile
from pathlib import Path

import pytest

from tests.data.coco_sets import reference, write_set
from xray_lazy.engine.run import RunOptions, run

GOLDEN = Path(__file__).with_name("golden_losses.json")
ROOT = Path(__file__).parents[2]
DEMOS = sorted([*ROOT.glob("configs/xray/*_demo.py"), *ROOT.glob("projects/*/configs/*_demo.py")])
DEMOS = [config for config in DEMOS if "raw" not in config.stem]  # the set here has files of 8-bit colours
# Processors and numbers of threads add in other orders, and a later step may choose other proposals for it.
TOLERANCES = [0.01, 0.01, 0.05]


def first_losses(config: Path, folder: Path) -> list[dict[str, float]]:
    write_set(folder / "set", count=10, size=(160, 96), classes="abcde")
    source = "{" + ", ".join(f"{key}: {value}" for key, value in reference(folder / "set").items()) + "}"
    overrides = [f"++dataloader.{split}.dataset.names={source}" for split in ("train", "test")]
    overrides += ["dataloader.train.num_workers=0", "dataloader.train.total_batch_size=2", "train.device=cpu"]
    overrides += [f"train.max_iter={len(TOLERANCES)}", "train.eval_period=0", "train.log_period=1", "train.seed=1"]
    overrides += ["~hooks.prediction_pictures", "~hooks.evaluation", "~hooks.report", "~hooks.evaluation_media"]
    overrides += ["~writers.wandb", "~writers.tensorboard", "writers.json.window_size=1"]
    run(RunOptions(str(config), [*overrides, f"train.output_dir={folder / 'run'}"]))
    lines = [json.loads(line) for line in (folder / "run" / "metrics.json").read_text().splitlines()]
    return [{key: value for key, value in line.items() if "loss" in key and "val" not in key} for line in lines]


@pytest.mark.parametrize("config", DEMOS, ids=lambda config: config.stem)
def test_the_first_losses_of_a_demo_are_those_on_file(config, tmp_path):
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))[config.stem]
    losses = first_losses(config, tmp_path)
    for step, expected, tolerance in zip(losses, golden, TOLERANCES, strict=True):
        assert step == pytest.approx(expected, rel=tolerance, abs=1e-3)


if __name__ == "__main__":
    all_losses = {}
    for demo in DEMOS:
        with tempfile.TemporaryDirectory() as place:
            all_losses[demo.stem] = first_losses(demo, Path(place))
    GOLDEN.write_text(json.dumps(all_losses, indent=1) + "\n", encoding="utf-8")
