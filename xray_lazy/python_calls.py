"""`train`, `evaluate` and `predict` for Python and notebooks: what the tools do, with the same errors."""

import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xray_lazy.errors import RunFailure, UserError
from xray_lazy.failure import PLACE, read_failure
from xray_lazy.run_folder import MARK, METRICS, Evaluation, RunFolder, best_evaluation
from xray_lazy.tool_files import training_command
from xray_lazy.utils.processes import end_with_parent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from xray_lazy.prediction.predictor import Prediction

Overrides = Sequence[str] | Mapping[str, Any]
Images = "str | os.PathLike | np.ndarray | Iterable[str | os.PathLike | np.ndarray]"

_PATH = str | os.PathLike
# of the functions' arguments, by name: type, and what to give
_ARGUMENTS: dict[str, tuple[Any, str]] = {
    "config": (_PATH, "a config's file, which `xray_lazy.config.save_config` makes, or a packaged one's name"),
    "overrides": (Iterable, 'a list such as ["train.max_iter=100"], or a dict'),
    "source": (_PATH, "a training's output folder, or a config's file or name"),
    "weights": (_PATH | None, "a checkpoint's file"),
    "model": (_PATH, "a training's output folder, or an exported file"),
    "resume": (bool, "True or False"),
    "overwrite": (bool, "True or False"),
    "device": (str, '"auto", "cpu" or "cuda"'),
    "batch_size": (Integral, "a whole number, 1 or more"),
}


@dataclass(frozen=True)
class TrainedRun:
    """A training that has ended; notebooks show its curves.

    Attributes:
        folder: the output folder.
        metrics: of its best evaluation, by names such as `bbox/AP`, in percent; empty where nothing was evaluated.
        weights: the best checkpoint, or else the last one.
    """

    folder: Path
    metrics: dict[str, float | None]
    weights: Path | None

    @property
    def history(self) -> list[dict]:
        """What was logged: one dict per iteration, with the names of metrics.json."""
        return RunFolder(self.folder).read_metrics()

    def plot(self) -> "Figure":
        """Loss and AP over the iterations."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(9, 3), layout="constrained")
        for axes, title, wanted in zip(figure.subplots(1, 2), ("loss", "AP"), (_is_loss, _is_ap), strict=True):
            for name in sorted({name for row in self.history for name in row if wanted(name)}):
                points = [(row["iteration"] + 1, row[name]) for row in self.history if row.get(name) is not None]
                axes.plot(*zip(*points, strict=True), label=name, marker="." if len(points) < 20 else None)
            axes.set(title=title, xlabel="iteration", ylim=(0, None))
            if axes.lines:
                axes.legend(frameon=False)
        return figure

    def _repr_png_(self) -> bytes:
        from io import BytesIO

        stream = BytesIO()
        self.plot().savefig(stream, format="png", dpi=100)
        return stream.getvalue()


def train(
    config: str | os.PathLike,
    overrides: Overrides = (),
    *,
    num_gpus: int | None = None,
    num_processes: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
) -> TrainedRun:
    """Train in processes of their own, as tools/lazy_train.py does; their output is printed here.

    Ctrl-C, or a notebook's stop button, lets the run save a checkpoint, from which `resume` goes on.

    Args:
        config: a config's file, or one of `xray_lazy.config.config_names()`, such as `xray/mask_rcnn_r50.py`.
        overrides: `["train.max_iter=100", "~writers.wandb"]`, or `{"train.max_iter": 100, "~writers.wandb": None}`.
        num_gpus, num_processes: as the tool's flags: processes with a GPU each, or on the CPU.
        resume: go on from the output folder's last checkpoint, if there is one.
        overwrite: let another run's output folder be used.

    Raises:
        UserError: a fault of config, data or arguments, before anything is written.
        RunFailure: the run had begun and failed.
    """
    _check_types(config=config, overrides=overrides, resume=resume, overwrite=overwrite)
    file, words = _config_file(config), _words(overrides)
    folder = _output_dir(file, words)
    flags = ["--resume"] * resume + ["--overwrite"] * overwrite
    _run_training_tool(file, words, flags, num_gpus, num_processes)
    run = RunFolder(folder)
    best = best_evaluation(run.evaluations())
    return TrainedRun(folder, dict(best.metrics) if best else {}, next(iter(run.weights()), None))


def evaluate(
    source: str | os.PathLike,
    overrides: Overrides = (),
    *,
    weights: str | os.PathLike | None = None,
    num_gpus: int | None = None,
    num_processes: int | None = None,
) -> dict[str, float | None]:
    """Evaluate weights as `tools/lazy_train.py --eval-only` does.

    Args:
        source: a training's output folder, or a config as of `train`.
        overrides: as of `train`.
        weights: a checkpoint; by default the folder's best, or what the config's `train.init_checkpoint` names.
        num_gpus, num_processes: as of `train`.

    Returns:
        The metrics by names such as `bbox/AP`, in percent; the mean, where several sets are evaluated apart.

    Raises:
        UserError, RunFailure: as of `train`.
    """
    from xray_lazy.config.override_text import override

    _check_types(source=source, overrides=overrides, weights=weights)
    run, words = RunFolder(source), _words(overrides)
    file = run.config if run.config.is_file() else _config_file(source)
    weights = weights or (next(iter(run.weights()), None) if file == run.config else None)
    if weights:
        words = [override("train.init_checkpoint", os.fspath(weights)), *words]
    written_to = RunFolder(_output_dir(file, words))
    before = _written(written_to)
    _run_training_tool(file, words, ["--eval-only"], num_gpus, num_processes)
    new = [found for found in written_to.evaluations() if before.get(found.folder) != _time_of(found)]
    means = [found for found in new if found.parts != [found]]
    return {_unmarked(name, found): value for found in means or new for name, value in found.metrics.items()}


def predict(
    model: str | os.PathLike,
    images: Images,
    *,
    threshold: float = 0.5,
    device: str = "auto",
    batch_size: int = 8,
) -> "list[Prediction]":
    """Detect items in images. Who calls it often keeps a `xray_lazy.prediction.predictor.Predictor` instead.

    Args:
        model: a training's output folder, or a file that tools/export.py wrote.
        images: one or several: files, folders, patterns, or arrays of (H, W, 3) BGR uint8.
        threshold: of scores; items below are left out.
        device: "auto", "cpu" or "cuda".
        batch_size: images that go through the network together.

    Returns:
        For each image its detections, in pixels of the image; an image that can't be read has a `problem` instead,
        and so has, at the end, a folder that can't be looked into.

    Raises:
        UserError: the model can't be loaded, or no image is found.
    """
    from xray_lazy.prediction.input_files import find_inputs
    from xray_lazy.prediction.predictor import Prediction, Predictor

    _check_types(model=model, device=device, batch_size=batch_size)
    given = list(images) if isinstance(images, Iterable) and not _is_one(images) else [images]
    if not given or "" in map(str, filter(_is_path, given)):
        raise UserError("the argument images names no image", "give files, folders or patterns, or arrays")
    sources: list[Any] = []
    left_out: list[Prediction] = []
    for item in given:
        if not _is_path(item):
            sources.append(item)
            continue
        found = find_inputs([os.fspath(item)])
        sources += [image.path for image in found.images]
        left_out += [Prediction(item, problem=problem) for problem in found.unreadable]
    predictor = Predictor.of(os.fspath(model), device=device, batch_size=batch_size, score_threshold=threshold)
    return [*predictor.stream(sources), *left_out]


def _check_types(**arguments: object) -> None:
    for name, value in arguments.items():
        kind, wanted = _ARGUMENTS[name]
        if not isinstance(value, kind):
            raise UserError(f"the argument {name} can't be of the type {type(value).__name__}", f"give {wanted}")


def _is_path(item: object) -> bool:
    return isinstance(item, _PATH)


def _is_one(images: object) -> bool:
    return _is_path(images) or isinstance(images, bytes | bytearray) or hasattr(images, "shape")


def _config_file(config: str | os.PathLike) -> Path:
    """A config by its file, or by its name among the packaged ones."""
    from xray_lazy.config.load import find_config

    path = Path(config)
    return path if path.exists() else find_config(path.as_posix())


def _output_dir(file: Path, words: Sequence[str]) -> Path:
    """Where the tool writes; where the config doesn't say it, which the tool refuses with all faults, this folder."""
    from omegaconf import DictConfig

    from xray_lazy.config import load_config

    settings = load_config(file, words).get("train")
    named = settings.get("output_dir") if isinstance(settings, DictConfig) else None
    return Path(str(named or "."))


def _words(overrides: Overrides) -> list[str]:
    from xray_lazy.config.override_text import override

    if isinstance(overrides, Mapping):
        removed = [key for key, value in overrides.items() if str(key).startswith("~") and value is None]
        return [key if key in removed else override(str(key), value) for key, value in overrides.items()]
    if isinstance(overrides, str):
        raise UserError(f"the overrides are one text, {overrides!r}", f"give a list: [{overrides!r}]")
    return [str(word) for word in overrides]


def _run_training_tool(
    file: Path, words: Sequence[str], flags: Sequence[str], num_gpus: int | None, num_processes: int | None
) -> None:
    """Run it to its end and print its output; raises what it failed of."""
    command = [*training_command(file, num_gpus, num_processes), *flags]
    with tempfile.TemporaryDirectory(prefix="xray_lazy_") as place:
        told = Path(place) / "failure.json"
        environment = {**os.environ, PLACE: str(told), "PYTHONUNBUFFERED": "1"}
        code, last_line = _run([*command, *words], environment)
        failure = read_failure(told)
    if code == 2 and not failure:  # of the command line's parser
        raise UserError(last_line.strip().rpartition(" error: ")[2], "what is allowed is printed above")
    if code:
        raise failure.error() if failure else RunFailure(f"the training has ended with exit code {code}")


def _run(command: Sequence[str], environment: Mapping[str, str]) -> tuple[int, str]:
    """A command's exit code, and its last line; an interrupt goes to it, and is raised here once it has ended."""
    line = ""
    interrupted: KeyboardInterrupt | None = None
    process = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,  # so that it hears of an interrupt once, from here
        preexec_fn=end_with_parent,  # a script that is killed, or a notebook's kernel, leaves no training behind
    )
    try:
        while True:
            try:
                for line in process.stdout or ():
                    print(line, end="")
                code = process.wait()
                break
            except KeyboardInterrupt as error:
                process.send_signal(signal.SIGINT)  # the second one ends a training at once
                interrupted = error
    finally:
        if process.poll() is None:
            process.terminate()
    if interrupted:
        raise interrupted
    return code, line


def _written(folder: RunFolder) -> dict[Path, int]:
    return {found.folder: _time_of(found) for found in folder.evaluations()}


def _unmarked(name: str, evaluation: Evaluation) -> str:
    """A metric's name without what tells the evaluation's folder from that of the training's own."""
    suffix = re.sub(MARK, "", evaluation.suffix)
    return name.replace(f"{evaluation.suffix}/", f"{suffix}/", 1)


def _time_of(evaluation: Evaluation) -> int:
    return (evaluation.folder / METRICS).stat().st_mtime_ns


def _is_loss(name: str) -> bool:
    return name in ("total_loss", "val_loss/total_loss")


def _is_ap(name: str) -> bool:
    return name.endswith("/AP")
