"""What `tools/visualize.py features` does: look into a trained model at work on images."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os.path import realpath
from pathlib import Path

import numpy as np
from detectron2.config import instantiate

from xray_lazy.data.datasets import load_datasets
from xray_lazy.data.image_files.image_file import IMAGE_SUFFIXES, image_size
from xray_lazy.data.mapper import map_record
from xray_lazy.engine.trained_model import TrainedModel, load_trained_model
from xray_lazy.errors import UserError
from xray_lazy.inspection import panels
from xray_lazy.inspection.parts import model_parts
from xray_lazy.run_folder import RunFolder
from xray_lazy.utils.results_place import check_no_input, check_result_folder, sole_writer
from xray_lazy.utils.wording import counted
from xray_lazy.visualization.image_choice import draw_at_random
from xray_lazy.visualization.montage import contact_sheet, with_title
from xray_lazy.visualization.prediction_images import write_image

SUBJECTS = ("proposals", "stages", "attention", "activation", "levels")
CELL_WIDTH, TITLE_HEIGHT, COLUMNS = 560, 13, 4


@dataclass(frozen=True)
class FeaturesRequest:
    """What to show of which model.

    Attributes:
        source, weights, overrides, device: of the model, as `load_trained_model` takes them.
        images: files and folders.
        dataset: a set's name, whose images are taken, too.
        count, seed: how many images to draw at random, and the seed.
        output: folder; by default `visualizations/features` of the run, `output/features` for a config file.
        show: of `SUBJECTS`; none means all that the model has.
        top: proposals to draw.
        score_threshold: of detections.
    """

    source: str
    images: Sequence[str] = ()
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
    """Write a folder for each image: a PNG for each subject, and `sheet.png` of all; `report` gets a line for each.

    What can't be read is told on stderr and left out.

    Raises:
        UserError: there is no such image, model or subject, none of the images can be read, or the model can't be
            run in parts.
    """
    unknown = [name for name in request.show if name not in SUBJECTS]
    if unknown:
        raise UserError(f"there is nothing called {', '.join(unknown)} to show", f"there are {', '.join(SUBJECTS)}")
    folder = _folder(request)
    check_result_folder(folder)
    found = _records(request, folder)
    check_no_input(folder.glob("*/*.png"), [Path(record["file_name"]) for record in found])
    records = draw_at_random(found, request.count, request.seed)
    trained = load_trained_model(request.source, request.weights, request.overrides, request.device)
    mapper = instantiate(trained.cfg.dataloader.test.mapper)
    parts = model_parts(trained.model)
    names: set[str] = set()
    with sole_writer(folder):
        for record in records:
            wanted = request.show or SUBJECTS
            try:
                sample = map_record(mapper, _sized(record))
            except UserError as problem:
                print(f"skipped: {problem.message}", file=sys.stderr)
                continue
            reader = getattr(mapper, "reader", None)
            seen = panels.look(parts, sample, request.score_threshold, "activation" in wanted, reader)
            drawn = draw_subjects(seen, trained, wanted, request.top)
            path = folder / _free_name(Path(record["file_name"]).stem, names)
            for name, image in drawn.items():
                write_image(path / f"{name}.png", image)
            missing = [name for name in request.show if name not in drawn]
            note = f" (nothing to show of {', '.join(missing)})" if missing else ""
            found = counted(len(seen.detections), "detection")
            report(f"{path}: {', '.join(f'{name}.png' for name in drawn)}; {found}{note}")
    if not names:
        which = "the image can't" if len(records) == 1 else f"none of the {len(records)} images could"
        raise UserError(f"{which} be read", "see the lines above")


def draw_subjects(seen: panels.Seen, trained: TrainedModel, wanted: Sequence[str], top: int) -> dict[str, np.ndarray]:
    """An image of each wanted subject that the model has, BGR, and "sheet" with all of them."""
    factor = CELL_WIDTH / seen.image.shape[1]
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
    return contact_sheet([with_title(image, title, TITLE_HEIGHT) for title, image in own], COLUMNS, CELL_WIDTH)


def _records(request: FeaturesRequest, results: Path) -> list[dict]:
    """detectron2's dicts of the named images; those that a folder has in `results` are none."""
    files = [file for text in request.images for file in _files(Path(text), results)]
    records = [{"file_name": str(file), "image_id": number, "annotations": []} for number, file in enumerate(files)]
    if request.dataset:
        records += load_datasets(request.dataset, request.root)
    if not records:
        raise UserError("no images are given", "name files, folders, or a set with --dataset")
    return records


def _sized(record: dict) -> dict:
    """Raises: UnreadableImage: a file that no set tells the size of can't be read."""
    if "width" in record:
        return record
    width, height = image_size(record["file_name"])
    return record | {"width": width, "height": height}


def _files(path: Path, results: Path) -> list[Path]:
    if path.is_dir():
        images = sorted(file for file in path.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES)
        # not Path.resolve, which raises at a link to itself
        found = [file for file in images if not Path(realpath(file)).is_relative_to(realpath(results))]
        if images and not found:
            raise UserError(
                f"there are no images in {path} outside of {results}, where the results go",
                "name another folder for them with --output",
            )
        if not found:
            raise UserError(f"there are no images in {path}", f"they end in {', '.join(sorted(IMAGE_SUFFIXES))}")
        return found
    if not path.is_file():
        raise UserError(f"there is no image {path}", "give files and folders of images")
    return [path]


def _free_name(name: str, taken: set[str]) -> str:
    """`name`, numbered where an image of another folder has it already."""
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
