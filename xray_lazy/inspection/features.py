"""What `tools/visualize.py features` does: look into a trained model at work on pictures."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from detectron2.config import instantiate

from xray_lazy.data.datasets import load_datasets
from xray_lazy.data.mapper import map_record
from xray_lazy.data.picture_file import PICTURE_SUFFIXES, picture_size
from xray_lazy.engine.trained_model import TrainedModel, load_trained_model
from xray_lazy.errors import UserError
from xray_lazy.inspection import panels
from xray_lazy.inspection.parts import model_parts
from xray_lazy.results_place import check_result_folder
from xray_lazy.run_folder import RunFolder
from xray_lazy.visualization.montage import contact_sheet, with_title
from xray_lazy.visualization.picture_choice import draw_at_random
from xray_lazy.visualization.prediction_pictures import write_picture
from xray_lazy.wording import counted

SUBJECTS = ("proposals", "stages", "attention", "activation", "levels")
CELL_WIDTH, TITLE_HEIGHT, COLUMNS = 560, 13, 4


@dataclass(frozen=True)
class FeaturesRequest:
    """What a person wants to see of which model.

    Attributes:
        source, weights, overrides, device: of the model, as `load_trained_model` takes them.
        pictures: files and folders.
        dataset: a set's name, whose pictures are taken, too.
        count, seed: so many of all pictures, drawn at random.
        output: folder; by default `visualizations/features` of the run, `output/features` for a config file.
        show: of `SUBJECTS`; none stands for all that the model has.
        top: proposals to draw.
        score_threshold: of detections.
    """

    source: str
    pictures: Sequence[str] = ()
    dataset: str | None = None
    root: str | None = None
    count: int = 4
    seed: int = 0
    weights: str | None = None
    overrides: Sequence[str] = ()
    device: str = "auto"
    output: str | None = None
    show: Sequence[str] = ()
    top: int = 30
    score_threshold: float = 0.5


def inspect_features(request: FeaturesRequest, report: Callable[[str], None]) -> None:
    """Write a folder for each picture: a PNG for each subject, and `sheet.png` of all; `report` gets a line for each.

    What can't be read is told on stderr and left out.

    Raises:
        UserError: there is no such picture, model or subject, none of the pictures can be read, or the model can't be
            run in parts.
    """
    unknown = [name for name in request.show if name not in SUBJECTS]
    if unknown:
        raise UserError(f"there is nothing called {', '.join(unknown)} to show", f"there are {', '.join(SUBJECTS)}")
    folder = _folder(request)
    check_result_folder(folder)
    records = _records(request)
    trained = load_trained_model(request.source, request.weights, request.overrides, request.device)
    mapper = instantiate(trained.cfg.dataloader.test.mapper)
    parts = model_parts(trained.model)
    names: set[str] = set()
    for record in records:
        wanted = request.show or SUBJECTS
        try:
            sample = map_record(mapper, _sized(record))
        except UserError as problem:
            print(f"skipped: {problem.message}", file=sys.stderr)
            continue
        seen = panels.look(parts, sample, request.score_threshold, "activation" in wanted)
        drawn = draw_subjects(seen, trained, wanted, request.top)
        path = folder / _free_name(Path(record["file_name"]).stem, names)
        for name, picture in drawn.items():
            write_picture(path / f"{name}.png", picture)
        missing = [name for name in request.show if name not in drawn]
        note = f" (nothing to show of {', '.join(missing)})" if missing else ""
        found = counted(len(seen.detections), "detection")
        report(f"{path}: {', '.join(f'{name}.png' for name in drawn)}; {found}{note}")
    if not names:
        which = "the picture can't" if len(records) == 1 else f"none of the {len(records)} pictures could"
        raise UserError(f"{which} be read", "see the lines above")


def draw_subjects(seen: panels.Seen, trained: TrainedModel, wanted: Sequence[str], top: int) -> dict[str, np.ndarray]:
    """A picture of each wanted subject that the model has, BGR, and "sheet" with all of them."""
    factor = CELL_WIDTH / seen.picture.shape[1]
    names = trained.class_names
    drawn = {
        "levels": lambda: panels.level_panels(seen, names, factor),
        "proposals": lambda: panels.proposal_panels(seen, names, factor, top),
        "stages": lambda: panels.stage_panels(seen, names, factor, top),
        "attention": lambda: panels.attention_panels(seen, names, factor),
        "activation": lambda: panels.activation_panels(seen, names, factor),
    }
    found = {"detections": panels.detection_panels(seen, names, factor)}
    found |= {name: drawn[name]() for name in SUBJECTS if name in wanted}
    sheets = {name: _sheet(own) for name, own in found.items() if own}
    return sheets | {"sheet": _sheet([panel for own in found.values() for panel in own])}


def _sheet(own: panels.Panels) -> np.ndarray:
    return contact_sheet([with_title(picture, title, TITLE_HEIGHT) for title, picture in own], COLUMNS, CELL_WIDTH)


def _records(request: FeaturesRequest) -> list[dict]:
    """detectron2's dicts of the chosen pictures."""
    files = [file for text in request.pictures for file in _files(Path(text))]
    records = [{"file_name": str(file), "image_id": number, "annotations": []} for number, file in enumerate(files)]
    if request.dataset:
        records += load_datasets(request.dataset, request.root)
    if not records:
        raise UserError("no pictures are given", "name files, folders, or a set with --dataset")
    return draw_at_random(records, request.count, request.seed)


def _sized(record: dict) -> dict:
    """Raises: UnreadablePicture: a file that no set tells the size of can't be read."""
    if "width" in record:
        return record
    width, height = picture_size(record["file_name"])
    return record | {"width": width, "height": height}


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        found = sorted(file for file in path.rglob("*") if file.suffix.lower() in PICTURE_SUFFIXES)
        if not found:
            raise UserError(f"there are no pictures in {path}", f"they end in {', '.join(sorted(PICTURE_SUFFIXES))}")
        return found
    if not path.is_file():
        raise UserError(f"there is no picture {path}", "give files and folders of pictures")
    return [path]


def _free_name(name: str, taken: set[str]) -> str:
    """`name`, numbered where a picture of another folder has it already."""
    free, number = name, 2
    while free in taken:
        free, number = f"{name}_{number}", number + 1
    taken.add(free)
    return free


def _folder(request: FeaturesRequest) -> Path:
    if request.output:
        return Path(request.output)
    is_run = Path(request.source).is_dir()
    return RunFolder(request.source).visualizations / "features" if is_run else Path("output/features")
