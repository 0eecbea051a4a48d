"""Threat image projection: items of a library put into bags, with exact boxes and masks."""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from xray_lazy.config.suggest import nearest
from xray_lazy.data.augmentation.bag_places import BagPlaces
from xray_lazy.data.augmentation.mixing import OtherRecords, Scene, new_annotation
from xray_lazy.data.augmentation.ranges import check_range, check_share
from xray_lazy.data.augmentation.threat_library import Threat, read_library
from xray_lazy.data.augmentation.transmission import put_behind
from xray_lazy.data.mask_rasters import MaskWindow
from xray_lazy.errors import UserError

# What bags may attenuate where an item is put that attenuates too much itself
LEAST_ROOM = 0.3
# Noise is drawn once, and each item gets another part of it
NOISE = 512


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
        rotation: at most so many degrees to either side, besides the quarter turns.
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
        check_range("threat projection", "items", items, above=0)
        check_range("threat projection", "scale", scale, above=0)
        for name, share in (("empty", empty), ("occupied", occupied), ("near_items", near_items)):
            check_share("threat projection", name, share)
        self.library = library
        self.items, self.scale, self.rotation = tuple(items), tuple(scale), rotation
        self.empty, self.occupied = empty, occupied
        self.quarter_turns, self.mirror, self.near_items = quarter_turns, mirror, near_items
        self.most_attenuation, self.most_overlap = most_attenuation, most_overlap
        self.balance, self.noise, self.pixel_size = balance, noise, pixel_size
        self.names = dict(names or {})
        # each with its four channels, the last one of its mask, and its mean attenuation
        self._by_class: dict[str, list[tuple[np.ndarray, float]]] = {}
        threats = read_library(library)
        for threat in threats:
            name = self.names.get(threat.class_name, threat.class_name)
            if name is not None:
                self._by_class.setdefault(name, []).append((self._scaled(threat), _mean_attenuation(threat)))
        if not self._by_class:
            raise UserError(
                f"no item of the threat library {library} is used", "leave fewer classes out of it by `names`"
            )
        places = [threat.place for threat in threats if threat.place]
        self._places = np.array(places) if places else None
        self._classes: tuple[Sequence[str], list[str], np.ndarray] | None = None
        drawn = np.random.default_rng(0).normal(0, noise, (NOISE, NOISE, 3)) if noise else None
        self._noise = None if drawn is None else drawn.round().astype(np.int16)

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
            transmission, bits = self._turned(item, random)
            near = self._places if random.random() < self.near_items else None
            room = max(self.most_attenuation - attenuation, LEAST_ROOM)
            place = places.find(bits, random, near, room, self.most_overlap)
            if place is None:
                continue
            self._put(scene, transmission, place, random)
            places.take(*place, bits, attenuation)
            mask = MaskWindow(*place, bits)
            annotations.append(new_annotation(mask, scene.size, others.class_names.index(name)))
        return Scene(scene.image, annotations, scene.image_format)

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

    def _scaled(self, threat: Threat) -> np.ndarray:
        """An item (h, w, 4), its transmission and its mask, with pixels as large as the training set's."""
        item = np.dstack([threat.transmission, 255 * threat.bits.view(np.uint8)])
        if not self.pixel_size or not threat.pixel_size:
            return item
        factor = threat.pixel_size / self.pixel_size
        size = max(1, round(factor * item.shape[1])), max(1, round(factor * item.shape[0]))
        return cv2.resize(item, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)

    def _turned(self, item: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """The item as it is put in: (h, w, 3) uint8, and its mask (h, w) bool."""
        scale = float(random.uniform(self.scale[0], self.scale[1]))
        angle = float(random.uniform(-self.rotation, self.rotation))
        angle += 90 * int(random.integers(4)) if self.quarter_turns else 0
        height, width = item.shape[:2]
        matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, scale)
        if self.mirror and random.random() < 0.5:
            matrix = matrix @ np.array([[-1.0, 0, width - 1], [0, 1, 0], [0, 0, 1]])
        extent = np.abs(matrix[:, :2]) @ (width, height)
        new = max(1, round(extent[0])), max(1, round(extent[1]))
        matrix[:, 2] += (np.array(new) - (width, height)) / 2
        turned = cv2.warpAffine(item, matrix, new, flags=cv2.INTER_LINEAR, borderValue=(255, 255, 255, 0))
        return cv2.cvtColor(turned, cv2.COLOR_BGRA2BGR), cv2.extractChannel(turned, 3) >= 128

    def _put(self, scene: Scene, transmission: np.ndarray, place: tuple[int, int], random: np.random.Generator) -> None:
        left, top = place
        part = scene.image[top : top + transmission.shape[0], left : left + transmission.shape[1]]
        transmission = transmission[: part.shape[0], : part.shape[1]]
        put_behind(part, transmission if scene.image_format == "BGR" else transmission[:, :, ::-1])
        if self._noise is not None:
            y, x = (int(random.integers(NOISE - min(side, NOISE) + 1)) for side in part.shape[:2])
            noise = self._noise[y : y + part.shape[0], x : x + part.shape[1]]
            on = part[: noise.shape[0], : noise.shape[1]]
            there = transmission[: noise.shape[0], : noise.shape[1]].min(2, keepdims=True) < 250
            on[:] = np.clip(on + noise * there, 0, 255)


def _mean_attenuation(threat: Threat) -> float:
    return float(-np.log(np.maximum(threat.transmission[threat.bits], 1) / 255).mean())
