"""What the other view of a bag says of a detection: learned weights, in place of the best score of any view.

Two views at right angles of a bag on a belt share the belt's axis: an item lies between the same two places of it in
both. A detection's counterpart is the best one of its class in another view of the bag that lies there, too.
"""

import os
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, logit

from xray_lazy.errors import UserError
from xray_lazy.evaluation.screening.bags import BoxesOfImage, HitRule
from xray_lazy.run_folder import number_or_none
from xray_lazy.utils.json_files import read_json

Axis = Literal["x", "y", "none"]
AXES = ("x", "y", "none")
FILE_NAME = "view_fusion.json"
SCHEMA = 1
LEAST_OVERLAP = 0.5  # of a detection's and its counterpart's intervals along the belt: intersection over union
SCORE_BOUND = 1e-4  # scores are no nearer to 0 and 1, whose logits are infinite
# How much the weights of all classes are held to those of the score as it is, and those of a class to those of all:
# as variances of 1 and 1/10 would (a Gaussian prior)
POOLED_PRIOR, CLASS_PRIOR = 1.0, 10.0
_AS_IT_IS = np.array([0.0, 1.0, 0.0, 0.0])
_FIT = "tools/analyze.py fuse-views RUN makes such a file"


@dataclass(frozen=True)
class ViewFusion:
    """Logistic regressions, one of each class: is a detection right or a false alarm, by both views' scores.

    score' = sigmoid(w0 + w1 logit(own) + w2 logit(counterpart) + w3), the last two where there is a counterpart; w1 and
    w2 are not negative. A bag of which there is one view has weights of its own, of the first two.

    Attributes:
        axis: of images that is the belt's; `none` where views don't share it: the best of the class in another view
            is the counterpart then.
        weights: (K, 4) by class.
        alone: (K, 2) for bags of one view.
    """

    axis: Axis
    weights: np.ndarray
    alone: np.ndarray

    @classmethod
    def fit(cls, images: Sequence[BoxesOfImage], classes: int, rule: HitRule, axis: Axis) -> "ViewFusion":
        """Weights that tell right detections from those that are false alarms, of clean bags, the best.

        What is wrong in a bag with a threat is neither. Where no bag is clean, those are for each class that have no
        item of it. The prior is the score as it is, and for a class the weights of all: one of few detections has
        nearly these.
        """
        shown: dict[Hashable, set[int]] = defaultdict(set)
        for image in images:
            shown[image.bag].update(image.item_classes[~image.crowd].tolist())
        has_clean = not all(shown[image.bag] for image in images)
        features, right, of_class = [np.zeros((0, 4))], [np.zeros(0, bool)], [np.zeros(0, int)]
        for image, own in zip(images, _features(images, axis), strict=True):
            judged, inside = image.judged(rule), shown[image.bag]
            is_threat = bool(inside) if has_clean else np.isin(image.classes, list(inside))
            told = judged.right | (judged.counts & ~np.broadcast_to(is_threat, judged.right.shape))
            features.append(own.values[told])
            right.append(judged.right[told])
            of_class.append(image.classes[told])
        values, labels, numbers = np.concatenate(features), np.concatenate(right), np.concatenate(of_class)

        def fitted(count: int) -> np.ndarray:
            pooled = _fit(values[:, :count], labels, _AS_IT_IS[:count], POOLED_PRIOR)
            own = ((values[numbers == k, :count], labels[numbers == k]) for k in range(classes))
            return np.stack([_fit(*of, pooled, CLASS_PRIOR) for of in own])

        return cls(axis, fitted(4), fitted(2))

    def fuse(self, images: Sequence[BoxesOfImage]) -> list[BoxesOfImage]:
        """The images with the fused scores of their detections; all images of a bag must be among them."""
        fused = []
        for image, own in zip(images, _features(images, self.axis), strict=True):
            weights = self.weights if own.has_views else np.pad(self.alone, ((0, 0), (0, 2)))
            fused.append(replace(image, scores=expit((own.values * weights[image.classes]).sum(axis=1))))
        return fused

    def as_json(self, class_names: Sequence[str]) -> dict[str, Any]:
        """The part of a file that `from_json` reads."""
        tables = {"weights": self.weights, "alone": self.alone}
        return {
            "axis": self.axis,
            **{key: dict(zip(class_names, table.tolist(), strict=True)) for key, table in tables.items()},
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any], class_names: Sequence[str], path: str) -> "ViewFusion":
        """For a model with these classes, from the content of the file `path`.

        Raises:
            UserError: it is other content, or of other classes.
        """
        if content.get("axis") not in AXES:
            raise UserError(f"{path} holds no weights for views: its axis is {content.get('axis')!r}", _FIT)
        tables = []
        for key, count in (("weights", 4), ("alone", 2)):
            rows = content.get(key)
            if not isinstance(rows, dict) or not all(_is_row(row, count) for row in rows.values()):
                raise UserError(f"{path} holds no weights for views: its {key} are not {count} numbers by class", _FIT)
            if set(rows) != set(class_names):
                raise UserError(
                    f"{path} does not fit the classes of the model: it has weights for {', '.join(rows)}, and not for "
                    f"{', '.join(class_names)}",
                    "fit weights for this model",
                )
            tables.append(np.array([rows[name] for name in class_names], float))
        return cls(content["axis"], *tables)


def read_fusion(path: str | os.PathLike) -> dict[str, Any]:
    """The content of a file that `tools/analyze.py fuse-views` wrote.

    Raises:
        UserError: it is not there, or is another file.
    """
    content = read_json(path, f"there is no file of weights for views {path}", _FIT)
    if not isinstance(content, dict) or content.get("schema") != SCHEMA or "axis" not in content:
        raise UserError(f"{path} holds no weights for views", _FIT)
    return content


class _Features(NamedTuple):
    """Of D detections (D, 4): 1, logit of the score, and of the counterpart's, whether there is one.

    `has_views` tells whether the bag has another view.
    """

    values: np.ndarray
    has_views: bool


def _features(images: Sequence[BoxesOfImage], axis: Axis) -> list[_Features]:
    places: dict[Hashable, list[int]] = defaultdict(list)
    for place, image in enumerate(images):
        places[image.bag].append(place)
    found = []
    for place, image in enumerate(images):
        others = [images[other] for other in places[image.bag] if other != place]
        best = np.max([_counterparts(image, other, axis) for other in others], axis=0, initial=-np.inf)
        best = np.broadcast_to(best, image.scores.shape)
        there = best > -np.inf
        values = [np.ones_like(image.scores), _logit(image.scores), np.where(there, _logit(best), 0.0), there]
        found.append(_Features(np.stack(values, axis=1).astype(float), bool(others)))
    return found


def _counterparts(image: BoxesOfImage, other: BoxesOfImage, axis: Axis) -> np.ndarray:
    """The score (D,) of each detection's counterpart in another view; -inf where it has none."""
    fits = image.classes[:, None] == other.classes
    if axis != "none":
        (start, end), (low, high) = (_interval(one, AXES.index(axis)) for one in (image, other))
        common = np.minimum(end[:, None], high) - np.maximum(start[:, None], low)
        union = np.maximum(end[:, None], high) - np.minimum(start[:, None], low)
        fits &= common >= LEAST_OVERLAP * union
    return np.where(fits, other.scores, -np.inf).max(axis=1, initial=-np.inf)


def _interval(image: BoxesOfImage, axis: int) -> tuple[np.ndarray, np.ndarray]:
    start, length = image.boxes[:, axis], image.boxes[:, axis + 2]
    return start / image.size[axis], (start + length) / image.size[axis]


def _logit(scores: np.ndarray) -> np.ndarray:
    return logit(np.clip(scores, SCORE_BOUND, 1 - SCORE_BOUND))


def _fit(values: np.ndarray, labels: np.ndarray, prior: np.ndarray, strength: float) -> np.ndarray:
    """The weights (F,) with the least log-loss of `labels` (N,) by `values` (N, F), held to `prior`."""
    signs = np.where(labels, 1.0, -1.0)

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        margins, off = signs * (values @ weights), weights - prior
        total = np.logaddexp(0, -margins).sum() + strength / 2 * (off @ off)
        return total, -(signs * expit(-margins)) @ values + strength * off

    bounds = [(None, None), (0, None), (0, None), (None, None)][: len(prior)]
    return minimize(loss, prior, jac=True, method="L-BFGS-B", bounds=bounds).x


def _is_row(row: Any, count: int) -> bool:
    return isinstance(row, list) and len(row) == count and all(number_or_none(one) is not None for one in row)
