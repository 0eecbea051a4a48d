"""What unlabelled scans bring: pseudo-labels, and labels where `analyze.py next` asks for them.

`python -m benchmarks.few_labels ANNOTATIONS IMAGES --labelled 40` hides the labels of most images, trains on the few
that are left, and then from the same start, for as many iterations, on these and

- `pseudo`: what the first model is sure of in the others (`predict.py --pseudo-labels`),
- `random`: as many images again, labelled, drawn at random,
- `next`: as many images again, labelled, as `analyze.py next` chooses,
- `all`: all of the labels.

Each is tested on the same images, of which none is trained on. What is finished is not repeated.
"""

import argparse
import csv
import json
import os
import random
import statistics
import subprocess
import sys
from pathlib import Path

from xray_lazy import train
from xray_lazy.config.override_text import override
from xray_lazy.tool_files import tools_folder

ARMS = ("labelled", "pseudo", "random", "next", "all")
METRICS = ("bbox/AP", "bbox/AP50", "segm/AP")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("annotations", type=Path, help="COCO file")
    parser.add_argument("images", type=Path, help="folder of its images")
    parser.add_argument("--config", default="xray/mask_rcnn_r18_demo.py")
    parser.add_argument("--labelled", type=int, default=40, help="images with labels, and images to label next")
    parser.add_argument("--test", type=int, default=100, help="images to test on")
    parser.add_argument("--iterations", type=int, default=450)
    parser.add_argument("--threshold", type=float, default=0.7, help="least score of a pseudo-label")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--results", type=Path, default=Path("output/few_labels"))
    parser.add_argument("--overrides", nargs="+", default=[], help="KEY=VALUE of the config")
    options = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled"}
    for seed in options.seeds:
        trial = Trial(options, seed)
        for arm in ARMS:
            trial.run(arm)
    print(table(options.results, options.seeds))


class Trial:
    """One draw of the labelled images, with a training for each arm, below `results/seed_N`."""

    def __init__(self, options: argparse.Namespace, seed: int):
        self.options, self.seed = options, seed
        self.folder = (options.results / f"seed_{seed}").resolve()
        self.sets = self.folder / "sets"
        self.sets.mkdir(parents=True, exist_ok=True)
        images = self.sets / "images"  # where the tools look for a COCO file's
        if not images.exists():
            images.symlink_to(options.images.resolve(), target_is_directory=True)
        self.content = json.loads(options.annotations.read_text())
        names = sorted(image["file_name"] for image in self.content["images"])
        random.Random(seed).shuffle(names)
        tested, others = names[: options.test], names[options.test :]
        others = with_all_classes_first(others, self.content)
        self.labelled, self.unlabelled = others[: options.labelled], others[options.labelled :]
        self.write("test", tested)
        self.write("labelled", self.labelled)
        self.write("unlabelled", self.unlabelled, with_labels=False)

    def run(self, arm: str) -> None:
        """Train and test it, unless that was done."""
        result = self.folder / f"{arm}.json"
        if result.is_file():
            return
        sets, more = getattr(self, f"for_{arm}")()
        settings = {
            "++dataloader.train.dataset.names": sets,
            "++dataloader.test.dataset.names": self.set("test"),
            "dataloader.train.num_workers": 0,
            "dataloader.test.num_workers": 0,
            "train.output_dir": str(self.folder / arm),
            "train.max_iter": self.options.iterations,
            "train.seed": self.seed,
            "train.device": "cpu",
            "train.eval_period": 0,
            "hooks.report.enabled": False,
            "hooks.prediction_pictures.count": 0,
            **more,
        }
        words = [override(key, value) for key, value in settings.items()]
        trained = train(self.options.config, [*words, *self.options.overrides], overwrite=True)
        images = sum(len(json.loads(Path(one["json_file"]).read_text())["images"]) for one in sets)
        # of averaged weights where the config evaluates them
        found = trained.metrics
        measured = {name: found.get(name, found.get(name.replace("/", "_EMA/"))) for name in METRICS}
        result.write_text(json.dumps({"images": images} | measured, indent=1))

    def for_labelled(self) -> tuple[list[dict], dict]:
        """The set of the few labels."""
        return [self.set("labelled")], {}

    def for_pseudo(self) -> tuple[list[dict], dict]:
        """The same, and the images that the first model is sure of, by their weights."""
        found = self.folder / "found"
        self.tool(
            "predict.py", self.folder / "labelled", self.sets / "unlabelled.json", "--pseudo-labels", "--no-pictures",
            "--threshold", str(self.options.threshold), "--output", found,
        )  # fmt: skip
        made = found / "pseudo_labels"
        pseudo = {"json_file": str(made / "annotations.json"), "image_root": str(made / "images"), "name": "pseudo"}
        weights = {"_target_": "xray_lazy.data.balance.ImageWeights"}
        return [self.set("labelled"), pseudo], {"dataloader.train.sampler.balance": [weights]}

    def for_random(self) -> tuple[list[dict], dict]:
        """Twice as many labels."""
        self.write("more_at_random", self.unlabelled[: self.options.labelled])
        return [self.set("labelled"), self.set("more_at_random")], {}

    def for_next(self) -> tuple[list[dict], dict]:
        """Twice as many labels, the second half as the model asks for them."""
        chosen = self.folder / "chosen"
        self.tool(
            "analyze.py", "next", self.folder / "labelled", self.sets / "unlabelled.json",
            "--count", str(self.options.labelled), "--output", chosen,
        )  # fmt: skip
        with (chosen / "next.csv").open(newline="") as file:
            self.write("more_as_asked", [Path(row["image"]).name for row in csv.DictReader(file)])
        return [self.set("labelled"), self.set("more_as_asked")], {}

    def for_all(self) -> tuple[list[dict], dict]:
        """What the labels of all images would bring."""
        self.write("others", self.unlabelled)
        return [self.set("labelled"), self.set("others")], {}

    def write(self, name: str, images: list[str], with_labels: bool = True) -> None:
        """A COCO file of these images."""
        kept = [image for image in self.content["images"] if image["file_name"] in set(images)]
        ids = {image["id"] for image in kept if with_labels}
        annotations = [one for one in self.content["annotations"] if one["image_id"] in ids]
        content = self.content | {"images": kept, "annotations": annotations}
        (self.sets / f"{name}.json").write_text(json.dumps(content))

    def set(self, name: str) -> dict:
        json_file, images = self.sets / f"{name}.json", self.sets / "images"
        return {"json_file": str(json_file), "image_root": str(images), "name": name}

    def tool(self, name: str, *arguments: object) -> None:
        subprocess.run([sys.executable, tools_folder() / name, *map(str, arguments)], check=True)


def with_all_classes_first(names: list[str], content: dict) -> list[str]:
    """The images in their order, but for one of each class that comes to the front: no class is without a label."""
    files = {image["id"]: image["file_name"] for image in content["images"]}
    classes: dict[str, set] = {}
    for one in content["annotations"]:
        classes.setdefault(files[one["image_id"]], set()).add(one["category_id"])
    front, seen = [], set()
    for name in names:
        if classes.get(name, set()) - seen:
            front.append(name)
            seen |= classes[name]
    return front + [name for name in names if name not in front]


def table(results: Path, seeds: list[int]) -> str:
    """The means of the seeds, and each of them."""
    rows = ["| trained on | images | box AP | AP50 | mask AP |", "|---|---|---|---|---|"]
    for arm in ARMS:
        found = [json.loads((results / f"seed_{seed}" / f"{arm}.json").read_text()) for seed in seeds]
        cells = [", ".join(str(one["images"]) for one in found)]
        for metric in METRICS:
            values = [one[metric] for one in found]
            if None in values:  # of a model without masks
                cells.append("")
            else:
                cells.append(f"{statistics.mean(values):.1f} ({', '.join(f'{value:.1f}' for value in values)})")
        rows.append(f"| {' | '.join([arm, *cells])} |")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
