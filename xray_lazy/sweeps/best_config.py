"""The best trial's config as a file that trains it again, in a folder of its own."""

import json
import shlex
from pathlib import Path

from xray_lazy.config import load_config, to_yaml
from xray_lazy.config.override_text import override
from xray_lazy.run_folder import RunFolder
from xray_lazy.sweeps.trials import Trial
from xray_lazy.utils.atomic_file import write_text


def write_best_config(path: Path, sweep_name: str, value: str, trial: Trial, output_dir: Path) -> bool:
    """Write the config that the trial has trained with, with another output folder.

    It is the run's own resolved config, so that it stays what was trained when the files that it came from change. Its
    first lines say what it is and which parameters the sweep has set.

    Args:
        path: the file to write.
        sweep_name: for the first line.
        value: the metric's name and the trial's value of it, for the first line.
        trial: a trial that has run.
        output_dir: of a run with this config.

    Returns:
        Whether there is one: a trial that ran on another machine may have left its folder there.
    """
    source = RunFolder(trial.folder).config
    if not source.is_file():
        return False
    cfg = load_config(source)
    cfg.train.output_dir = str(output_dir)
    command = ["python", "tools/lazy_train.py", "--config-file", str(path), *_devices(trial.folder)]
    lines = [
        f"The best trial of the sweep {sweep_name}: trial {trial.number}, {value}",
        *(override(key, setting) for key, setting in trial.parameters.items()),
        f"Train it: {shlex.join(command)}",
    ]
    comment = "".join(f"# {' '.join(line.splitlines())}\n" for line in lines)
    write_text(path, comment + to_yaml(cfg, references=True))
    return True


def _devices(folder: Path) -> list[str]:
    """The flags that said how many processes the trial had: they are no part of a config."""
    record = RunFolder(folder).record
    words = shlex.split(json.loads(record.read_text(encoding="utf-8"))["command"]) if record.is_file() else []
    flags = [place for place, word in enumerate(words) if word in ("--num-gpus", "--num-processes")]
    return [word for place in flags for word in words[place : place + 2]]
