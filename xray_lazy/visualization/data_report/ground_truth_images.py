"""Chosen images of data sets with their ground truth, and as training's augmentation makes them."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from xray_lazy.data.datasets import DetectionDataset
from xray_lazy.data.image_detections import Drawn
from xray_lazy.data.image_reader import ImageReader
from xray_lazy.visualization.data_report.shown_image import ShownImage, cell_height, draw_cell
from xray_lazy.visualization.image_choice import Choice, choose_records, draw_at_random, wanted_items
from xray_lazy.visualization.montage import contact_sheet
from xray_lazy.visualization.overlay import instances_of_record
from xray_lazy.visualization.prediction_images import write_image


def ground_truth_images(
    datasets: Sequence[DetectionDataset], choice: Choice, count: int, seed: int = 0
) -> list[ShownImage]:
    """Wanted images with their ground truth; items that are not asked for are drawn quietly.

    Args:
        datasets: of one list of classes.
        count: of images, over all sets; drawn at random by `seed` where there are more.
    """
    wanted = [(dataset, record) for dataset in datasets for record in choose_records(dataset, choice)]
    return [_shown(dataset, record, choice) for dataset, record in draw_at_random(wanted, count, seed)]


def _shown(dataset: DetectionDataset, record: Mapping, choice: Choice) -> ShownImage:
    wanted = wanted_items(record, dataset.class_names, choice)
    drawn = tuple(
        item if is_wanted else Drawn(item.class_id, item.box, mask=item.mask, is_quiet=True)
        for item, is_wanted in zip(instances_of_record(record), wanted, strict=True)
    )
    path = Path(record["file_name"])
    return ShownImage(path, drawn, f"{path.name}  {dataset.name}  id {record['image_id']}")


def save_augmented_sheet(
    records: Sequence[Mapping],
    mapper: Callable[[dict], dict],
    class_names: Sequence[str],
    path: Path,
    draws: int = 4,
    seed: int = 0,
    cell_width: int = 400,
) -> None:
    """Write one sheet, a row per image: several draws of the augmentation, with what is left of the items.

    Args:
        records: detectron2's dataset dicts.
        mapper: of the training loader, with `image_format`, "BGR" if it has none, and maybe with a `reader`.
        draws: of each image.
    """
    samples = [
        draw_sample(record, mapper, (seed, place, number))
        for place, record in enumerate(records)
        for number in range(draws)
    ]
    reader, order = getattr(mapper, "reader", None) or ImageReader(), getattr(mapper, "image_format", "BGR")
    scans = [reader.show(sample["image"].numpy().transpose(1, 2, 0), order) for sample in samples]
    height = cell_height(scans, cell_width)
    cells = []
    for place, (sample, scan) in enumerate(zip(samples, scans, strict=True)):
        name = Path(sample["file_name"]).name
        caption = f"{name}  draw {place % draws + 1}  {scan.shape[1]}x{scan.shape[0]}"
        shown = ShownImage(Path(name), tuple(instances_of_sample(sample)), caption)
        cells.append(draw_cell(scan, shown, class_names, (cell_width, height)))
    write_image(path, contact_sheet(cells, columns=draws, cell_width=cell_width))


def draw_sample(record: Mapping, mapper: Callable[[dict], dict], seed: Sequence[int]) -> dict:
    """One draw of the augmentation; the same seed draws the same, and the random state outside stays as it is."""
    import torch

    from xray_lazy.data.mapper import map_record

    state = np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        np.random.seed(list(seed))
        torch.manual_seed(int(np.random.SeedSequence(list(seed)).generate_state(1)[0]))
        try:
            return map_record(mapper, dict(record))
        finally:
            np.random.set_state(state)


def instances_of_sample(sample: Mapping) -> list[Drawn]:
    """The instances of a training sample, as the model gets them."""
    instances = sample["instances"]
    masks = [None] * len(instances)
    if instances.has("gt_masks"):
        kept = instances.gt_masks
        masks = [list(polygons) for polygons in kept.polygons] if hasattr(kept, "polygons") else kept.tensor.numpy()
    boxes, classes = instances.gt_boxes.tensor.tolist(), instances.gt_classes.tolist()
    return [Drawn(c, tuple(box), mask=mask) for c, box, mask in zip(classes, boxes, masks, strict=True)]
