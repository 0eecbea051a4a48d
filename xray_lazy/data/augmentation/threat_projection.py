"""Threat image projection: items of a library put into bags, with exact boxes and masks."""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from xray_lazy.config.suggest import did_you_mean, nearest
from xray_lazy.data.augmentation.bag_places import BagPlaces
from xray_lazy.data.augmentation.item_placing import ItemPlacing, as_item, mean_attenuation
from xray_lazy.data.augmentation.mixing import OtherRecords, Scene, new_annotation
from xray_lazy.data.augmentation.ranges import MOST_ITEMS, check_number, check_range, check_share
from xray_lazy.data.augmentation.threat_library import Threat, read_library
from xray_lazy.errors import UserError
from xray_lazy.utils.limits import Limits

MOST_BALANCE = 10  # beyond it, the rarest class is drawn alone


class ThreatProjection:
    """Puts items of a library into bags: what both let through is multiplied (a part of `mapper.mixing`).

    After Bhowmik et al., "The Good, the Bad and the Ugly: Evaluating Convolutional Neural Networks for Prohibited Item
    Detection Using Real and Synthetically Composited X-ray Imagery" (arXiv 1909.11508), and Rogers et al., "Threat
    Image Projection (TIP) into X-ray images of cargo containers for training humans and machines" (ICCST 2016).

    Args:
        library: folder that `tools/dataset.py threats` made.
        items: how many, from and to; fewer where no place is found for them.
        empty: probability that a bag without annotated items gets any.
        occupied: probability that another one does.
        scale: of an item, from and to.
        rotation: most degrees to either side, besides the quarter turns.
        quarter_turns: turn by 0 to 3 quarters.
        mirror: every second item.
        near_items: share of the items that are put near where the library's lay in their bags.
        most_attenuation: of bag and item together, natural logarithm, mean over the item's pixels and the channels:
            where more is in the way, nobody sees an item. Items that have about as much themselves are put where little
            else is.
        most_overlap: share of an item that may lie on annotated boxes, or on other items that were put in.
        balance: classes are drawn by the number of their instances in the training set to the power of minus this: with
            1, those with half of the instances are drawn twice as often; with 0, all are equally often.
        noise: standard deviation on the items, grey levels.
        pixel_size: millimetres of the training set's pixels; items that know theirs are scaled by it.
        names: from the library's class names to the training set's; None leaves a class out.
    """

    def __init__(
        self,
        library: str,
        items: Sequence[int] = (1, 3),
        empty: float = 0.5,
        occupied: float = 0.25,
        scale: Sequence[float] = (0.9, 1.1),
        rotation: float = 15.0,
        quarter_turns: bool = True,
        mirror: bool = True,
        near_items: float = 0.5,
        most_attenuation: float = 2.0,
        most_overlap: float = 0.2,
        balance: float = 1.0,
        noise: float = 0.0,
        pixel_size: float | None = None,
        names: Mapping[str, str | None] | None = None,
    ):
        check_range("threat projection", "items", items, least=1, most=MOST_ITEMS, whole=True)
        for name, share in (("empty", empty), ("occupied", occupied), ("near_items", near_items)):
            check_share("threat projection", name, share)
        check_number("threat projection", "balance", balance, Limits(least=0, most=MOST_BALANCE))
        if pixel_size is not None:
            check_number("threat projection", "pixel_size", pixel_size, Limits(above=0))
        self.library = library
        self.items, self.empty, self.occupied = tuple(items), empty, occupied
        self.near_items, self.balance, self.pixel_size = near_items, balance, pixel_size
        self._placing = ItemPlacing(
            "threat projection", scale, rotation, quarter_turns, mirror, most_attenuation, most_overlap, noise
        )
        self.names = dict(names or {})
        # each with its four channels, the last one of its mask, and its mean attenuation
        self._by_class: dict[str, list[tuple[np.ndarray, float]]] = {}
        threats = read_library(library)
        self._check_library(threats)
        for threat in threats:
            name = self.names.get(threat.class_name, threat.class_name)
            if name is not None:
                self._by_class.setdefault(name, []).append(self._scaled(threat))
        if not self._by_class:
            raise UserError(
                f"no item of the threat library {library} is used", "leave fewer classes out of it by `names`"
            )
        places = [threat.place for threat in threats if threat.place]
        self._places = np.array(places) if places else None
        self._classes: tuple[Sequence[str], list[str], np.ndarray] | None = None

    def __call__(self, scene: Scene, random: np.random.Generator, others: OtherRecords) -> Scene:
        """Raises: UserError where the training set lacks a class of the library."""
        names, ends = self._class_draws(others)
        is_empty = all(annotation["iscrowd"] for annotation in scene.annotations)
        if random.random() >= (self.empty if is_empty else self.occupied):
            return scene
        places = BagPlaces(scene)
        if not places:
            return scene
        annotations = list(scene.annotations)
        for _ in range(int(random.integers(self.items[0], self.items[1] + 1))):
            name = names[int(np.searchsorted(ends, random.random() * ends[-1], side="right"))]
            of_class = self._by_class[name]
            item, attenuation = of_class[int(random.integers(len(of_class)))]
            near = self._places if random.random() < self.near_items else None
            item = item if scene.image_format == "BGR" else item[:, :, [2, 1, 0, 3]]
            mask = self._placing.put(scene, places, item, attenuation, random, near)
            if mask is not None:
                annotations.append(new_annotation(mask, scene.size, others.class_names.index(name)))
        return Scene(scene.image, annotations, scene.image_format)

    def brought_classes(self, into_empty: bool, into_occupied: bool) -> set[str]:
        """Names of the classes, as the training set has them, which are put into bags without items or with some."""
        return set(self._by_class) if (self.empty and into_empty) or (self.occupied and into_occupied) else set()

    def _class_draws(self, others: OtherRecords) -> tuple[list[str], np.ndarray]:
        """The classes that are drawn, and the ends of their shares of a line."""
        if self._classes is None or self._classes[0] is not others.class_names:
            if missing := [name for name in self._by_class if name not in others.class_names]:
                like = nearest(missing[0], others.class_names, 1) or others.class_names[:1]
                raise UserError(
                    f"the threat library {self.library} has items of class {missing[0]}, which the training set lacks",
                    f"give the projection names={{{missing[0]}: {like[0]}}}, or {{{missing[0]}: null}} to leave it out",
                )
            names = list(self._by_class)
            counts = np.array([max(others.instance_counts[others.class_names.index(name)], 1) for name in names])
            self._classes = others.class_names, names, np.cumsum(counts ** -float(self.balance))
        return self._classes[1:]

    def _check_library(self, threats: Sequence[Threat]) -> None:
        """Refuse what would have no effect on any item of the library."""
        classes = sorted({threat.class_name for threat in threats})
        if strange := [name for name in self.names if name not in classes]:
            raise UserError(
                f"the threat projection's names have {', '.join(strange)}, and the library {self.library} no such item",
                did_you_mean(nearest(strange[0], classes)) or f"leave it out: there are {', '.join(classes)}",
            )
        if self.pixel_size and not any(threat.pixel_size for threat in threats):
            raise UserError(
                f"the threat projection's pixel_size scales nothing: no item of {self.library} knows its own",
                "make the library with `tools/dataset.py threats --pixel-size MM`, or leave pixel_size out",
            )

    def _scaled(self, threat: Threat) -> tuple[np.ndarray, float]:
        """An item with pixels as large as the training set's, and its mean attenuation."""
        item = as_item(threat.transmission, threat.bits)
        attenuation = mean_attenuation(threat.transmission, threat.bits)
        if not self.pixel_size or not threat.pixel_size:
            return item, attenuation
        factor = threat.pixel_size / self.pixel_size
        size = max(1, round(factor * item.shape[1])), max(1, round(factor * item.shape[0]))
        interpolation = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
        return cv2.resize(item, size, interpolation=interpolation), attenuation
