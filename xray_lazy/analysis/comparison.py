"""Two runs on the same images: which is better, and whether the number of images is enough to tell."""

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import replace

import numpy as np

from xray_lazy.analysis.inputs import Inputs, same_truth
from xray_lazy.analysis.precision_curves import average_precision, by_falling_score
from xray_lazy.analysis.results import TOO_FEW, Comparison, Difference
from xray_lazy.analysis.screening.screening import bag_keys
from xray_lazy.errors import UserError
from xray_lazy.evaluation.coco_metrics import IouType, Problem, image_positions
from xray_lazy.evaluation.matching import Matches, Matching
from xray_lazy.evaluation.resampling import interval, verdict

FIGURES = ("AP", "AP50", "AP75", "AR")
# Entries of the largest array at a time: 32 MB of doubles.
ARRAY_SIZE = 4_000_000
# Bags with an item that a verdict needs. Of two models that don't differ, intervals at 95 % from 20 bags favoured one
# in 6 of 100 simulated sets, those from 12 bags in 12, from 5 in 22, and from one bag, which all draws show, in 98.
LEAST_BAGS = 20


def compare(
    first: Inputs, second: Inputs, resamples: int = 1000, confidence: float = 0.95, seed: int = 0
) -> Comparison:
    """Compare by a paired bootstrap (Efron and Tibshirani 1993, chapter 13).

    As many bags as there are get drawn from them with replacement, `resamples` times, the same ones for both runs; an
    image that doesn't say which bag it shows is one by itself. The interval of a change is that of the percentiles of
    its values over the draws. It says how far the change depends on which bags were evaluated, and nothing of how it
    depends on the seed of the trainings. A change in few bags gets no verdict.

    Raises:
        UserError: the runs are not on the same ground truth, or have nothing in common that could be compared.
    """
    if resamples < 100 or not 0 < confidence < 1:
        raise UserError(
            f"{resamples} resamples with confidence {confidence} bound nothing",
            "take at least 100 resamples and a confidence between 0 and 1",
        )
    second = same_truth(first, second)
    truth = first.ground_truth
    masks = any(annotation.get("segmentation") for annotation in truth["annotations"])
    tasks: list[IouType] = [
        task
        for task, shape in (("bbox", "bbox"), ("segm", "segmentation"))
        if (task == "bbox" or masks) and all(d.get(shape) for inputs in (first, second) for d in inputs.detections)
    ]
    if not tasks:
        raise UserError(
            f"{first.origin} and {second.origin} do not both have boxes, nor both masks",
            "compare runs with the same kind of detections",
        )
    bags = _bag_of_each(truth)
    weights = _draws(bags, resamples, seed)
    shown = _bags_with_items(truth, bags)
    limit = min(first.max_detections, second.max_detections)
    both = [one if one.max_detections == limit else replace(one, max_detections=limit) for one in (first, second)]
    differences = {}
    for task in tasks:
        values = [_figures(inputs.matches(task), weights) for inputs in both]
        differences[task] = tuple(_differences(*values, confidence, shown))
    return Comparison(
        dataset=first.dataset,
        first=first.origin,
        second=second.origin,
        images=len(truth["images"]),
        bags=len(set(bags.values())),
        resamples=resamples,
        confidence=confidence,
        seed=seed,
        tasks=differences,
    )


def intervals(
    truth: dict,
    detections: list[dict],
    task: IouType = "bbox",
    max_detections: int = 100,
    resamples: int = 1000,
    confidence: float = 0.95,
) -> dict[str, tuple[float, float, float]]:
    """Each metric in percent with the bounds of its bootstrap interval over bags, as in `compare`.

    Args:
        truth: a COCO document.
        detections: COCO results.
        task: "bbox" or "segm".
        max_detections: that count in an image.
        resamples: how often bags are drawn.
        confidence: share of the draws within the bounds.
    """
    matches = Matching(Problem.build(truth, detections, task, max_detections)).matches
    values = _figures(matches, _draws(_bag_of_each(truth), resamples, seed=0))
    return {
        name: (float(of[0]), *interval(of[1:], confidence)) for name, of in values.items() if not np.isnan(of[1:]).all()
    }


def _bag_of_each(truth: dict) -> dict[Hashable, int]:
    """The number of each image's bag by the image's id, in the order in which `Matches` has the images."""
    named = dict(zip((image["id"] for image in truth["images"]), bag_keys(truth, None), strict=True))
    numbers: dict[Hashable, int] = {}
    return {image_id: numbers.setdefault(named[image_id], len(numbers)) for image_id in image_positions(named)}


def _bags_with_items(truth: dict, bags: Mapping[Hashable, int]) -> dict[str, int]:
    """In how many bags each metric has items, by its name."""
    items = [annotation for annotation in truth["annotations"] if not annotation["iscrowd"]]
    counts = dict.fromkeys(FIGURES, len({bags[item["image_id"]] for item in items}))
    for category in truth["categories"]:
        of_class = {bags[item["image_id"]] for item in items if item["category_id"] == category["id"]}
        counts[f"AP-{category['name']}"] = len(of_class)
    return counts


def _draws(bags: Mapping[Hashable, int], resamples: int, seed: int) -> np.ndarray:
    """How often each image is drawn with its bag (1 + resamples, images); the first row is the set itself."""
    random = np.random.default_rng(seed)
    of_images = list(bags.values())
    count = len(set(of_images))
    drawn = random.multinomial(count, np.full(count, 1 / count), size=resamples)[:, of_images]
    return np.concatenate([np.ones((1, len(bags)), int), drawn])


def _figures(matches: Matches, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Each metric in percent by name, (draws,); NaN where a draw has no item."""
    names = matches.class_names
    ap = np.full((len(names), 10, len(weights)), np.nan)
    recall = np.full_like(ap, np.nan)
    for category in range(len(names)):
        items = ~matches.crowd & (matches.annotation_category == category)
        if items.any():
            instances = weights[:, matches.annotation_image[items]].sum(axis=1)
            rows = by_falling_score(matches, category)
            ap[category], recall[category] = _figures_of_class(matches, rows, instances, weights)
    figures = {
        "AP": _mean(ap),
        "AP50": _mean(ap[:, :1]),
        "AP75": _mean(ap[:, 5:6]),
        "AR": _mean(recall),
    }
    return figures | {f"AP-{name}": _mean(ap[index : index + 1]) for index, name in enumerate(names)}


def _figures_of_class(
    matches: Matches, rows: np.ndarray, instances: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """AP and recall (10, draws) in 0..1 of one class."""
    ap, recall = np.full((10, len(weights)), np.nan), np.full((10, len(weights)), np.nan)
    right, wrong = matches.right[:, rows], matches.wrong[:, rows]
    for part in _parts(len(weights), len(rows)):
        often = weights[part][:, matches.image[rows]]
        for threshold in range(10):
            ap[threshold, part] = average_precision(right[threshold], wrong[threshold], often, instances[part])
            found = often[:, right[threshold]].sum(axis=1)
            present = instances[part] > 0
            recall[threshold, part] = np.where(present, found / np.maximum(instances[part], 1), np.nan)
    return ap, recall


def _parts(draws: int, detections: int) -> Iterator[slice]:
    step = max(1, ARRAY_SIZE // max(detections, 1))
    for start in range(0, draws, step):
        yield slice(start, min(start + step, draws))


def _mean(values: np.ndarray) -> np.ndarray:
    """The mean in percent over classes and thresholds that have a value, (classes, thresholds, draws) -> (draws,)."""
    present = ~np.isnan(values)
    count = present.sum(axis=(0, 1))
    total = np.where(present, values, 0).sum(axis=(0, 1))
    return np.divide(100 * total, count, out=np.full(values.shape[2], np.nan), where=count > 0)


def _differences(
    first: dict[str, np.ndarray], second: dict[str, np.ndarray], confidence: float, bags_with_items: dict[str, int]
) -> Iterator[Difference]:
    for name, values in first.items():
        changes = second[name] - values
        lower, upper = interval(changes[1:], confidence)
        yield Difference(
            name=name,
            first=float(values[0]),
            second=float(second[name][0]),
            change=float(changes[0]),
            lower=lower,
            upper=upper,
            verdict=verdict(lower, upper) if bags_with_items[name] >= LEAST_BAGS else TOO_FEW,
        )
