"""Train a config for some steps at two commits and compare losses and weights to the last bit, on this machine.

`python -m benchmarks.compare_commits HEAD~1 HEAD --config-file configs/xray/mask_rcnn_r18_demo.py train.seed=1`
Exit codes: 0 all equal, 1 the first difference is printed, or a commit does not train.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from xray_lazy.run_folder import RunFolder

ROOT = Path(__file__).parents[1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", metavar="COMMIT")
    parser.add_argument("after", metavar="COMMIT")
    parser.add_argument("--config-file", default="configs/xray/mask_rcnn_r18_demo.py", metavar="FILE")
    parser.add_argument("--iterations", type=int, default=10, metavar="N")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="for both")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        _run(ROOT, "tools/dataset.py", "demo", "--classes", "5", "--train", "16", "--val", "4", "--output", str(data))
        shared = [f"dataloader.root={data}", f"train.max_iter={options.iterations}", *options.overrides]
        runs = [_train(Path(folder), commit, options.config_file, shared) for commit in (options.before, options.after)]
        difference = first_difference(*runs)
    print(difference or f"{options.iterations} iterations are equal to the last bit, losses and weights")
    return 1 if difference else 0


def first_difference(before: Path, after: Path) -> str | None:
    """The first number of two runs that differs, in words; None where all are equal."""
    lines = [_losses(folder) for folder in (before, after)]
    for one, other in zip(*lines, strict=False):
        for name in [*one, *(name for name in other if name not in one)]:
            if one.get(name) != other.get(name):
                return f"iteration {one['iteration']}: {name} is {one.get(name)!r} before, {other.get(name)!r} after"
    if len(lines[0]) != len(lines[1]):
        return f"{len(lines[0])} lines of metrics before, {len(lines[1])} after"
    weights, others = [
        torch.load(RunFolder(folder).final, map_location="cpu", weights_only=True)["model"]
        for folder in (before, after)
    ]
    for name in [*weights, *(name for name in others if name not in weights)]:
        one, other = weights.get(name), others.get(name)
        if one is None or other is None:
            return f"weights: {name} is only there {'after' if one is None else 'before'}"
        if not torch.equal(one, other):
            return f"weights: {name} differs {_how(one, other)}"
    return None


def _how(one: torch.Tensor, other: torch.Tensor) -> str:
    same_shape = one.shape == other.shape
    return f"by up to {(one.double() - other.double()).abs().max():.3g}" if same_shape else "in shape"


def _losses(folder: Path) -> list[dict]:
    lines = [json.loads(line) for line in RunFolder(folder).metrics.read_text().splitlines()]
    return [
        {name: value for name, value in line.items() if name == "iteration" or "loss" in name or name == "lr"}
        for line in lines
    ]


def _train(folder: Path, commit: str, config: str, overrides: list[str]) -> Path:
    name = subprocess.check_output(["git", "-C", ROOT, "rev-parse", commit], text=True).strip()
    output, tree = Path(tempfile.mkdtemp(dir=folder)) / "run", Path(tempfile.mkdtemp(dir=folder)) / "tree"
    subprocess.run(["git", "-C", ROOT, "worktree", "add", "--quiet", "--detach", tree, name], check=True)
    try:
        fixed = ["train.seed=1", "train.device=cpu", "train.eval_period=0", "train.log_period=1"]
        fixed += ["writers.json.window_size=1", "writers.wandb.mode=disabled", f"train.output_dir={output}"]
        _run(tree, "tools/lazy_train.py", "--config-file", config, *fixed, *overrides)
    finally:
        subprocess.run(["git", "-C", ROOT, "worktree", "remove", "--force", tree], check=True)
    return output


def _run(tree: Path, tool: str, *arguments: str) -> None:
    environment = os.environ | {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    answer = subprocess.run(
        [sys.executable, tool, *arguments], cwd=tree, env=environment, capture_output=True, text=True
    )
    if answer.returncode:
        sys.exit(f"{tool} in {tree} ended with code {answer.returncode}\n{answer.stderr[-4000:]}")


if __name__ == "__main__":
    sys.exit(main())
