"""Draw the worst images and the suspected label errors of an analysis, ground truth beside detections."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from xray_lazy.analysis.inputs import Inputs
from xray_lazy.analysis.results import Analysis, ImageResult, LabelSuspect, TaskResult
from xray_lazy.data.image_detections import Drawn, by_image
from xray_lazy.data.image_files.image_file import UnreadableImage
from xray_lazy.data.likely_reader import picture
from xray_lazy.visualization.montage import fit_into, side_by_side
from xray_lazy.visualization.overlay import draw_instances
from xray_lazy.visualization.prediction_images import write_image

LARGEST = (1280, 1280)  # of one side, in pixels


def draw_images(analysis: Analysis, inputs: Inputs, folder: str | Path, count: int = 12) -> Analysis:
    """Draw the first `count` worst images and label suspects of the main task into `worst/` and `label_suspects/`.

    Images whose files can't be read are left out; those of an earlier analysis in the folder are deleted.

    Returns:
        The analysis with the images' names in `drawn`.
    """
    for name in ("worst", "label_suspects"):
        for earlier in (Path(folder) / name).glob("[0-9][0-9]_*.jpg"):
            earlier.unlink()
    task = "segm" if "segm" in analysis.tasks else "bbox"
    result, draw = analysis.tasks[task], _Drawer(inputs, with_masks=task == "segm")
    worst = [
        draw.worst(one, result, Path(folder), f"worst/{number:02d}_{Path(one.file_name).stem}.jpg")
        for number, one in enumerate(result.worst_pictures[:count])
    ]
    suspects = [
        draw.suspect(one, Path(folder), f"label_suspects/{number:02d}_{one.kind}_{Path(one.file_name).stem}.jpg")
        for number, one in enumerate(result.label_suspects[:count])
    ]
    result = replace(
        result,
        worst_pictures=(*worst, *result.worst_pictures[count:]),
        label_suspects=(*suspects, *result.label_suspects[count:]),
    )
    return replace(analysis, tasks={**analysis.tasks, task: result})


class _Drawer:
    """Knows the ground truth and detections of each image."""

    def __init__(self, inputs: Inputs, with_masks: bool):
        categories = sorted(inputs.ground_truth["categories"], key=lambda category: category["id"])
        self.names = [str(category["name"]) for category in categories]
        self.index = {category["id"]: index for index, category in enumerate(categories)}
        self.with_masks, self.reader = with_masks, inputs.reader
        self.truth = by_image(inputs.ground_truth["annotations"])
        self.detections = by_image(inputs.detections)

    def worst(self, image: ImageResult, result: TaskResult, folder: Path, name: str) -> ImageResult:
        shown = [d for d in self.detections.get(image.image_id, ()) if d["score"] >= result.score_threshold]
        note = f"prediction: {image.found} found, {image.missed} missed, {image.false} false"
        truth = self.truth.get(image.image_id, ())
        return replace(image, drawn=self._write(image.file_name, truth, shown, note, folder / name) and name)

    def suspect(self, suspect: LabelSuspect, folder: Path, name: str) -> LabelSuspect:
        shown = [
            d
            for d in self.detections.get(suspect.image_id, ())
            if d["score"] == suspect.score and self.names[self.index[d["category_id"]]] == suspect.detected_class
        ]
        question = {
            "missing": "nothing is annotated here",
            "class": f"annotated as {suspect.annotated_class}",
            "location": "annotated elsewhere",
        }[suspect.kind]
        truth = self.truth.get(suspect.image_id, ())
        return replace(suspect, drawn=self._write(suspect.file_name, truth, shown, question, folder / name) and name)

    def _write(self, file_name: str, truth: Sequence, shown: Sequence, note: str, path: Path) -> bool:
        try:
            image = picture(file_name, self.reader)
        except UnreadableImage:
            return False
        sides = (self._side(image, things) for things in (truth, shown))
        write_image(path, side_by_side(*sides, titles=(f"ground truth of {Path(file_name).name}", note)))
        return True

    def _side(self, image: np.ndarray, things: Sequence[Mapping[str, Any]]) -> np.ndarray:
        drawn = draw_instances(image, [self._drawn(thing) for thing in things], self.names)
        return drawn if max(drawn.shape) <= max(LARGEST) else fit_into(drawn, *LARGEST)

    def _drawn(self, thing: Mapping[str, Any]) -> Drawn:
        drawn = Drawn.of_coco(thing, self.index[thing["category_id"]])
        return drawn if self.with_masks else replace(drawn, mask=None)
