"""Copy-paste as X-rays allow: items of one bag of the training set multiplied into another."""

from collections.abc import Sequence

import numpy as np

from xray_lazy.data.augmentation.bag_places import BagPlaces
from xray_lazy.data.augmentation.cutting import Unusable
from xray_lazy.data.augmentation.item_cutting import cut_items
from xray_lazy.data.augmentation.item_placing import ItemPlacing, as_item, mean_attenuation
from xray_lazy.data.augmentation.mixing import OtherRecords, Scene, new_annotation
from xray_lazy.data.augmentation.ranges import MOST_ITEMS, check_range, check_share


class CopyPaste:
    """Puts items of another bag of the training set into bags, without a library (a part of `mapper.mixing`).

    After Ghiasi et al., "Simple Copy-Paste is a Strong Data Augmentation Method for Instance Segmentation" (arXiv
    2012.07177); here what both let through is multiplied, and the bag behind an item stays where it was. Items that
    can't be told apart from their bag, or that others cover, are not taken: with boxes alone most can't.

    Args:
        probability: that a bag gets items of another one.
        items: how many at most, from and to.
        scale, rotation, quarter_turns, mirror, most_attenuation, most_overlap: as of `ThreatProjection`.
    """

    def __init__(
        self,
        probability: float = 0.5,
        items: Sequence[int] = (1, 3),
        scale: Sequence[float] = (0.8, 1.25),
        rotation: float = 15.0,
        quarter_turns: bool = True,
        mirror: bool = True,
        most_attenuation: float = 2.0,
        most_overlap: float = 0.2,
    ):
        check_share("copy-paste", "probability", probability)
        check_range("copy-paste", "items", items, least=1, most=MOST_ITEMS, whole=True)
        self.probability, self.items, self.most_overlap = probability, tuple(items), most_overlap
        self._placing = ItemPlacing(
            "copy-paste", scale, rotation, quarter_turns, mirror, most_attenuation, most_overlap
        )

    def __call__(self, scene: Scene, random: np.random.Generator, others: OtherRecords) -> Scene:
        if random.random() >= self.probability:
            return scene
        other = others.draw(random, lambda record: any(not a["iscrowd"] for a in record["annotations"]))
        if other is None:
            return scene
        places = BagPlaces(scene)
        if not places:
            return scene
        count = int(random.integers(self.items[0], self.items[1] + 1))
        items = [place for place, one in enumerate(other.annotations) if not one["iscrowd"]]
        chosen = set(random.permutation(items)[:count].tolist())
        annotations = list(scene.annotations)
        for annotation, _, cut in cut_items(other.image, other.annotations, self.most_overlap, chosen):
            if isinstance(cut, Unusable):
                continue
            item, attenuation = as_item(*cut), mean_attenuation(*cut)
            mask = self._placing.put(scene, places, item, attenuation, random)
            if mask is not None:
                annotations.append(new_annotation(mask, scene.size, annotation["category_id"]))
        return Scene(scene.image, annotations, scene.image_format)
