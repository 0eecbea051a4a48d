"""Our own trainer: a config of the repository, `tools/lazy_train.py`, and the detections of its last evaluation."""

import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

from job import Job, iterations_within

from xray_lazy.run_folder import RunFolder

REPOSITORY = Path(__file__).parents[2]
TRIAL = (10, 30)  # iterations


def main(job: Job) -> None:
    """Find out how many iterations fit, train them, and hand the detections on."""
    short = train(job, TRIAL[0], "trial")
    iterations = job.iterations or int(job.of_another_seed("iterations") or 0)
    if not iterations:
        iterations, _ = iterations_within(job.seconds, short, TRIAL[0], train(job, TRIAL[1], "trial"), TRIAL[1])
    total = train(job, iterations, "run")
    # of the averaged weights, where the config has them
    made = RunFolder(Path(job.folder) / "run").evaluations()
    last = {evaluation.suffix: evaluation for evaluation in made if evaluation.iteration == iterations - 1}
    found = json.loads((last.get("_EMA") or last[""]).predictions.read_text())
    # without start-up and evaluation, which the short one has, too
    seconds = (total - short) * iterations / max(iterations - TRIAL[0], 1)
    job.finish(found, seconds=seconds, iterations=iterations, parameters=parameters(job))


def train(job: Job, iterations: int, name: str) -> float:
    """Train, and say how much processor time the whole process took, seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    log = Path(job.folder) / f"{name}.log"
    with log.open("w") as output:
        command = [sys.executable, "tools/lazy_train.py", "--config-file", job.settings["config"], "--overwrite"]
        code = subprocess.run(
            command + overrides(job, iterations, name),
            cwd=REPOSITORY,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | {"WANDB_MODE": "disabled"},
        ).returncode
    if code:
        raise SystemExit(f"{' '.join(command)} ended with {code}, see {log}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def overrides(job: Job, iterations: int, name: str) -> list[str]:
    """Sizes of images, the row's settings, and what the job says."""
    sets = {
        part: f"{{name: {part}, json_file: '{path}', image_root: '{job.images}'}}"
        for part, path in (("train", job.train), ("test", job.test))
    }
    classes, size = len(job.categories()), job.image_size
    key = "model.num_classes" if job.settings.get("queries") else "model.roi_heads.num_classes"
    return [
        sizes("dataloader.train.mapper.augmentations.0.short_edge_length=SHORT_EDGES", job),
        sizes("dataloader.train.mapper.augmentations.0.max_size=MAX_SIZE", job),
        f"dataloader.test.mapper.augmentations.0.short_edge_length={size * 13 // 20}",
        f"dataloader.test.mapper.augmentations.0.max_size={size}",
        *(sizes(override, job) for override in job.settings.get("overrides", [])),
        *([f"train.init_checkpoint='{job.settings['weights']}'"] if "weights" in job.settings else []),
        f"{key}={classes}",
        f"++dataloader.train.dataset.names={sets['train']}",
        f"++dataloader.test.dataset.names={sets['test']}",
        "dataloader.train.num_workers=0",
        "dataloader.test.num_workers=0",
        f"train.output_dir={Path(job.folder).resolve() / name}",
        f"train.max_iter={iterations}",
        f"train.seed={job.seed}",
        "train.device=cpu",
        "train.eval_period=0",
        "hooks.report.enabled=False",
        "hooks.prediction_pictures.count=0",
        "hooks.evaluation_media.period=0",
    ]


def sizes(override: str, job: Job) -> str:
    """The override with pixels and paths of the job in place of the names that recipes have for them."""
    size = job.image_size
    values = {
        "SHORT_EDGES": [size * share // 20 for share in range(10, 16)],  # a half to three quarters
        "SHORTER_EDGES": [size * share // 20 for share in range(7, 16)],
        "MAX_SIZE": size * 11 // 10,
        **{made: f"'{path}'" for made, path in job.settings.get("files", {}).items()},
    }
    return re.sub("|".join(rf"\b{name}\b" for name in values), lambda found: str(values[found[0]]), override)


def parameters(job: Job) -> int:
    """Of the trained model."""
    import torch

    weights = torch.load(RunFolder(Path(job.folder) / "run").final, map_location="cpu", weights_only=False)["model"]
    return sum(value.numel() for value in weights.values() if hasattr(value, "numel"))


if __name__ == "__main__":
    main(Job.load(sys.argv[1]))
