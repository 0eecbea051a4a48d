"""Which image goes to which split: exact shares, rare classes first, groups kept together.

The method is iterative stratification: K. Sechidis, G. Tsoumakas, I. Vlahavas, "On the Stratification of Multi-Label
Data", ECML PKDD 2011. Added are: whole numbers are aimed at instead of fractions, so that the splits get their exact
size and a class of few images reaches every split; what is dealt out is a group of images; and where a class still
misses a split at the end, images are exchanged.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass

# Images without any instance are a class of their own, so that each split gets its share of them.
_EMPTY = ("empty",)


def whole_shares(total: int, ratios: Sequence[float]) -> list[int]:
    """Deal `total` things by `ratios` (which sum to 1) in whole numbers.

    Every share with a ratio above 0 gets at least one, the largest ratios first if there are too few; the rest is dealt
    by the largest remainder (Hare quota), so that no share is off by one or more unless that first rule demands it.
    """
    shares = [0] * len(ratios)
    by_ratio = sorted((i for i, ratio in enumerate(ratios) if ratio > 0), key=lambda i: -ratios[i])
    for i in by_ratio[:total]:
        shares[i] = max(1, int(total * ratios[i] + 1e-9))
    while sum(shares) > total:
        largest = max((i for i in by_ratio if shares[i] > 1), key=lambda i: shares[i] - total * ratios[i])
        shares[largest] -= 1
    while sum(shares) < total:
        neediest = max(by_ratio, key=lambda i: total * ratios[i] - shares[i])
        shares[neediest] += 1
    return shares


def assign_splits(
    names: Sequence[str],
    classes: Sequence[Collection[Hashable]],
    groups: Sequence[Hashable],
    ratios: Sequence[float],
    seed: int,
) -> list[int]:
    """The split of each image, as an index into `ratios`.

    Args:
        names: the images' names, each once; with the seed they alone decide about chance, so that the order in which
            the images are listed changes nothing.
        classes: which classes are in each image.
        groups: images of the same group come into the same split.
        ratios: the splits' shares, which sum to 1.
        seed: another seed gives another split.
    """
    units = _units(names, classes, groups, seed)
    dealer = _Dealer(units, ratios)
    while dealer.unassigned:
        dealer.deal_rarest_class()
    while swap := dealer.best_swap():
        dealer.swap(*swap)
    assignment = [0] * len(names)
    for unit, split in dealer.split_of.items():
        for image in units[unit].images:
            assignment[image] = split
    return assignment


@dataclass(frozen=True)
class _Unit:
    """Images that stay together, and how many of them hold each class."""

    images: list[int]
    class_counts: dict[Hashable, int]


def _units(names, classes, groups, seed: int) -> list[_Unit]:
    """The groups in an order that depends on the seed and the names only; large groups first."""
    members = defaultdict(list)
    for image in sorted(range(len(names)), key=names.__getitem__):
        members[groups[image]].append(image)
    units = [_Unit(images, _class_counts(classes[p] for p in images)) for images in members.values()]
    # A hash in place of a shuffle: one more image in the set leaves the others' order as it is.
    return sorted(units, key=lambda unit: (-len(unit.images), _chance(seed, names[unit.images[0]])))


def _class_counts(classes_of_images) -> dict[Hashable, int]:
    return Counter(name for found in classes_of_images for name in (set(found) or {_EMPTY}))


def _chance(seed: int, name: str) -> bytes:
    return hashlib.blake2b(f"{seed}\0{name}".encode("utf-8", "surrogateescape"), digest_size=16).digest()


class _Dealer:
    """What each split still wants, while the units are dealt out one by one."""

    def __init__(self, units: list[_Unit], ratios: Sequence[float]):
        self.units = units
        self.split_of: dict[int, int] = {}
        self.unassigned = len(units)
        self.units_of_class = defaultdict(list)
        self.left_of_class = Counter()
        for index, unit in enumerate(units):
            for name, count in unit.class_counts.items():
                self.units_of_class[name].append(index)
                self.left_of_class[name] += count
        self.wanted_of_class = {name: whole_shares(total, ratios) for name, total in self.left_of_class.items()}
        self.wanted_images = whole_shares(sum(len(unit.images) for unit in units), ratios)
        self.aims = [(name, split) for name, shares in self.wanted_of_class.items() for split in _above_zero(shares)]
        self.has_class = Counter()  # how many units of a split have the class, by (class, split)
        self.bare_splits = set(_above_zero(self.wanted_images))

    def deal_rarest_class(self) -> None:
        """Deal all units of the class that is in the fewest images left."""
        # Names of equal rarity are taken in the order of their text: that of the dictionary is the file's.
        name = min((name for name, left in self.left_of_class.items() if left), key=self._rarity)
        for index in self.units_of_class[name]:
            if index not in self.split_of:
                self._deal(index, self._choose_split(self.units[index], name))

    def _rarity(self, name: Hashable) -> tuple[int, bool, str]:
        return self.left_of_class[name], name is _EMPTY, str(name)

    def _choose_split(self, unit: _Unit, name: Hashable) -> int:
        """The split that wants the class most, then the one that wants images most, of those with room."""
        size = len(unit.images)
        splits = [split for split, wanted in enumerate(self.wanted_images) if wanted >= size]
        if self.unassigned <= len(self.bare_splits):
            splits = sorted(self.bare_splits)
        if not splits:  # a large group: where it overshoots least
            return max(range(len(self.wanted_images)), key=self.wanted_images.__getitem__)
        wanted = self.wanted_of_class[name]
        return max(splits, key=lambda split: (wanted[split], self.wanted_images[split]))

    def _deal(self, index: int, split: int) -> None:
        self.unassigned -= 1
        self.bare_splits.discard(split)
        for name, count in self.units[index].class_counts.items():
            self.left_of_class[name] -= count
        self._put(index, split, 1)

    def _put(self, index: int, split: int, sign: int) -> None:
        """Count a unit into a split (sign 1) or out of it (sign -1)."""
        unit = self.units[index]
        self.split_of[index] = split
        self.wanted_images[split] -= sign * len(unit.images)
        for name, count in unit.class_counts.items():
            self.wanted_of_class[name][split] -= sign * count
            self.has_class[name, split] += sign

    def swap(self, first: int, second: int) -> None:
        """Exchange the splits of two units."""
        splits = self.split_of[first], self.split_of[second]
        for index, before, after in ((first, *splits), (second, *reversed(splits))):
            self._put(index, before, -1)
            self._put(index, after, 1)

    def best_swap(self) -> tuple[int, int] | None:
        """The exchange that brings a class into a split that has none of it, at no cost to others and to the sizes."""
        for name, split in self.aims:
            if self.has_class[name, split] or len(self.units_of_class[name]) < 2:
                continue
            inside = [index for index, at in self.split_of.items() if at == split]
            pairs = [(giver, index) for giver in self.units_of_class[name] for index in inside]
            gains = {pair: gain for pair in pairs if (gain := self._gain(*pair))}
            if gains:
                return max(gains, key=gains.__getitem__)
        return None

    def _gain(self, first: int, second: int) -> tuple[int, int, int] | None:
        """(splits newly served with a class, with empty images, less surplus) of an exchange; None for no gain."""
        one, other = self.units[first], self.units[second]
        here, there = self.split_of[first], self.split_of[second]
        growth = len(other.images) - len(one.images)
        if self._misfit(self.wanted_images, here, there, growth) > 0:
            return None
        served = {True: 0, False: 0}
        surplus = 0
        for name in one.class_counts.keys() | other.class_counts.keys():
            moved = (name in other.class_counts) - (name in one.class_counts)
            for split, change in ((here, moved), (there, -moved)):
                has = self.has_class[name, split]
                served[name is _EMPTY] += (has + change > 0) - (has > 0)
            growth = other.class_counts.get(name, 0) - one.class_counts.get(name, 0)
            surplus += self._misfit(self.wanted_of_class[name], here, there, growth)
        gain = served[False], served[True]
        return (*gain, -surplus) if gain > (0, 0) else None

    @staticmethod
    def _misfit(wanted: Sequence[int], here: int, there: int, growth: int) -> int:
        """How much further from what is wanted two splits are when `here` grows at the cost of `there`."""
        after = abs(wanted[here] - growth) + abs(wanted[there] + growth)
        return after - abs(wanted[here]) - abs(wanted[there])


def _above_zero(shares: Sequence[int]) -> list[int]:
    return [split for split, share in enumerate(shares) if share > 0]
