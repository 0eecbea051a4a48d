"""What else lies in bags and carries no label: clothes, books, electronics, shoes, toiletries, small metal things."""

import numpy as np

from xray_lazy.data.synthetic.materials import (
    ALUMINIUM,
    BRASS,
    CIRCUIT_BOARD,
    CLOTH,
    COPPER,
    FOOD,
    GLASS,
    LEATHER,
    LITHIUM_CELL,
    PAPER,
    PLASTIC,
    POLYETHYLENE,
    PVC,
    RUBBER,
    STEEL,
    WATER,
)
from xray_lazy.data.synthetic.object_parts import Part
from xray_lazy.data.synthetic.outlines import blob, ellipse, lathe, polygon, rectangle, smooth, turned, wandering_path


def make_clutter(rng: np.random.Generator) -> list[Part]:
    """The parts of a random unlabelled object in cm around the origin."""
    return _MAKERS[rng.choice(len(_MAKERS), p=_SHARES)](rng)


def clothes(rng: np.random.Generator) -> list[Part]:
    """A folded garment: layers of cloth with creases, perhaps with buttons."""
    width, height = rng.uniform(14, 30), rng.uniform(12, 24)
    grain = rng.uniform(0.7, 2.5)
    layers = [
        Part(turned(blob(rng, width * size, height * size), angle), CLOTH, thickness, texture=0.6, grain=grain)
        for size, angle, thickness in zip(
            (1.0, 0.9, 0.7), rng.uniform(-40, 40, 3), rng.uniform(0.8, 2.2, 3), strict=True
        )
    ]
    creases = [
        Part(wandering_path(rng, width * 0.8, 2.5, 25) + rng.uniform(-0.25, 0.25, 2) * width, CLOTH, 1.4, stroke=stroke)
        for stroke in rng.uniform(0.2, 0.7, rng.integers(3, 8))
    ]
    buttons = [
        Part(ellipse(1.0, 1.0, (k * 3.0 - 6, 0.5)), PLASTIC, 0.3, holes=[ellipse(0.25, 0.25, (k * 3.0 - 6, 0.5))])
        for k in range(5)
    ]
    return layers + creases + (buttons if rng.random() < 0.3 else [])


def book(rng: np.random.Generator) -> list[Part]:
    """A closed book: pages, cover, spine."""
    width, height = rng.uniform(11, 17), rng.uniform(17, 24)
    pages = rng.uniform(0.8, 2.5)
    return [
        Part(rectangle(width - 0.6, height - 0.6), PAPER, pages, texture=0.05, grain=0.3),
        Part(rectangle(width, height), PAPER, 0.5),
        Part(rectangle(0.5, height, 0, (-width / 2 + 0.25, 0)), PAPER, pages),
    ]


def cable(rng: np.random.Generator) -> list[Part]:
    """A cable thrown in or coiled up, with plugs."""
    if rng.random() < 0.5:
        path = wandering_path(rng, rng.uniform(25, 60))
    else:
        turns, width = rng.uniform(2, 4), rng.uniform(5, 9)
        angles = np.linspace(0, 2 * np.pi * turns, 120)
        wobble = 1 + 0.12 * np.sin(angles * 1.07 + rng.uniform(0, 6))
        path = np.stack([np.cos(angles) * width * wobble, np.sin(angles) * width * 0.6 * wobble[::-1]], axis=1)
    plugs = [Part(rectangle(2.6, 1.2, 0.2) + end, PVC, 0.8) for end in (path[0], path[-1])]
    pins = [Part(rectangle(1.3, 0.7) + end + [1.6, 0], STEEL, 0.15) for end in (path[0], path[-1])]
    return [Part(path, PVC, 0.35, stroke=0.42), Part(path, COPPER, 0.10, stroke=0.22), *plugs, *pins]


def charger(rng: np.random.Generator) -> list[Part]:
    """A mains adapter: transformer, capacitors, board, and its cable."""
    width, height = rng.uniform(5, 9), rng.uniform(3.5, 5)
    path = wandering_path(rng, rng.uniform(10, 25))
    parts = [
        Part(rectangle(width, height, 0.5), PLASTIC, 0.6),
        Part(rectangle(width * 0.9, height * 0.85), CIRCUIT_BOARD, 0.16),
        Part(rectangle(width * 0.28, height * 0.5, 0.1, (width * 0.1, 0)), COPPER, 0.18),
        Part(ellipse(1.2, 1.2, (-width * 0.25, height * 0.1)), ALUMINIUM, 1.4),
        Part(rectangle(1.6, 0.5, 0, (width * 0.33, -height * 0.25)), STEEL, 0.2),
        Part(path - path[0] + [width / 2, 0], PVC, 0.4, stroke=0.4),
        Part(path - path[0] + [width / 2, 0], COPPER, 0.1, stroke=0.2),
    ]
    return parts + [Part(rectangle(1.9, 0.4, 0.1, (-width / 2 - 0.9, y)), BRASS, 0.3) for y in (-0.95, 0.95)]


def laptop(rng: np.random.Generator) -> list[Part]:
    """A notebook: shell, board, flat cells, fan, keys, hinges."""
    width, height = rng.uniform(29, 34), rng.uniform(20, 23)
    parts = [
        Part(rectangle(width, height, 0.8), ALUMINIUM, 0.16),
        Part(rectangle(width * 0.95, height * 0.9), GLASS, 0.1),
        Part(
            rectangle(width * 0.8, height * 0.34, 0, (0, -height * 0.22)), CIRCUIT_BOARD, 0.14, texture=0.7, grain=0.8
        ),
        Part(
            ellipse(5, 5, (width * 0.3, -height * 0.24)),
            COPPER,
            0.06,
            holes=[ellipse(1.6, 1.6, (width * 0.3, -height * 0.24))],
        ),
        Part(rectangle(width * 0.4, 0.8, 0, (width * 0.05, -height * 0.34)), COPPER, 0.09),
    ]
    parts += [
        Part(rectangle(width * 0.2, height * 0.3, 0.2, (width * at, height * 0.28)), LITHIUM_CELL, 0.35)
        for at in (-0.33, -0.11, 0.11, 0.33)
    ]
    parts += [Part(rectangle(3, 0.9, 0.2, (width * at, -height * 0.48)), STEEL, 0.35) for at in (-0.35, 0.35)]
    return parts + [
        Part(rectangle(width * 0.82, 0.12, 0, (0, -height * 0.05 + row * 1.7)), ALUMINIUM, 0.12) for row in range(5)
    ]


def phone(rng: np.random.Generator) -> list[Part]:
    """A telephone: glass, board, one flat cell, a camera."""
    width, height = rng.uniform(6.6, 7.8), rng.uniform(13.5, 16.5)
    return [
        Part(rectangle(width, height, 0.9), GLASS, 0.14),
        Part(rectangle(width, height, 0.9), ALUMINIUM, 0.08),
        Part(rectangle(width * 0.5, height * 0.6, 0.2, (width * 0.16, height * 0.06)), LITHIUM_CELL, 0.3),
        Part(rectangle(width * 0.26, height * 0.75, 0, (-width * 0.3, 0)), CIRCUIT_BOARD, 0.14, texture=0.6, grain=0.6),
        Part(ellipse(1.4, 1.4, (-width * 0.28, -height * 0.38)), STEEL, 0.15),
    ]


def shoe(rng: np.random.Generator) -> list[Part]:
    """A shoe seen from above or below: sole, heel, upper, steel shank, eyelets."""
    length = rng.uniform(25, 30)
    sole = smooth(
        polygon(
            (-0.5, -0.14),
            (-0.3, -0.17),
            (0.0, -0.12),
            (0.3, -0.19),
            (0.5, -0.1),
            (0.5, 0.08),
            (0.3, 0.17),
            (0, 0.12),
            (-0.3, 0.16),
            (-0.5, 0.13),
        ),
        2,
    )
    ribs = [
        Part(rectangle(0.35, length * 0.24, 0.1, (length * at, 0)), RUBBER, 0.5) for at in np.arange(0.1, 0.44, 0.045)
    ]
    parts = [
        Part(sole * length, RUBBER, rng.uniform(1.0, 1.8)),
        Part(sole * length * 0.94, LEATHER, 5.0, "shell", 0.35),
        Part(rectangle(length * 0.24, length * 0.24, 2, (-length * 0.36, 0)), RUBBER, 1.4),
        *ribs,
    ]
    if rng.random() < 0.6:
        parts.append(Part(rectangle(length * 0.3, 1.2, 0.3, (-length * 0.06, 0)), STEEL, 0.08))
    return parts + [
        Part(ellipse(0.7, 0.7, (length * 0.05 + k, side)), BRASS, 0.1) for k in range(5) for side in (-1.4, 1.4)
    ]


def toiletries(rng: np.random.Generator) -> list[Part]:
    """A tube, a jar or a bar of soap."""
    kind = rng.integers(3)
    if kind == 0:
        length = rng.uniform(10, 16)
        body = lathe((-length / 2, 2.6), (0, 2.2), (length / 2 - 2, 1.8), (length / 2 - 1.6, 0.9), (length / 2, 0.9))
        return [
            Part(body, WATER, 2.4, "round"),
            Part(rectangle(1.6, 2.4, 0.2, (length / 2 - 0.4, 0)), POLYETHYLENE, 1.8),
        ]
    if kind == 1:
        width = rng.uniform(5, 8)
        return [
            Part(ellipse(width, width), POLYETHYLENE, 0.8),
            Part(ellipse(width * 0.86, width * 0.86), WATER, 3),
            Part(ellipse(width * 1.02, width * 1.02), POLYETHYLENE, 2.5, "shell", 0.25),
        ]
    return [Part(rectangle(rng.uniform(6, 9), rng.uniform(4, 6), 1.5), FOOD, 2.6, "round")]


def keys(rng: np.random.Generator) -> list[Part]:
    """A bunch of keys on a ring."""
    parts = [Part(ellipse(2.8, 2.8), STEEL, 0.18, stroke=0.25)]
    for _ in range(rng.integers(2, 5)):
        angle, length = rng.uniform(0, 360), rng.uniform(4, 6)
        teeth = [(1.4 + length * t, 0.42 - 0.22 * (k % 2)) for k, t in enumerate(np.linspace(0.4, 1, 8))]
        blade = polygon((2.6, -0.4), (1.4 + length, -0.4), *teeth[::-1], (2.6, 0.42))
        bow = ellipse(2.3, 2.3, (2.2, 0))
        parts.append(Part(turned(bow, angle), BRASS, 0.16, holes=[turned(ellipse(0.6, 0.6, (1.4, 0)), angle)]))
        parts.append(Part(turned(blade, angle), BRASS, 0.16))
    return parts


def coins(rng: np.random.Generator) -> list[Part]:
    """Loose change."""
    places = rng.uniform(-3.5, 3.5, (rng.integers(3, 8), 2))
    return [Part(ellipse(d, d, place), BRASS, 0.17) for place, d in zip(places, rng.uniform(1.8, 2.6, 8), strict=False)]


def belt(rng: np.random.Generator) -> list[Part]:
    """A rolled or loose leather belt with its buckle."""
    path = wandering_path(rng, rng.uniform(30, 60), 4, 35)
    buckle = rectangle(5.0, 4.2, 0.6)
    return [
        Part(path, LEATHER, 2.2, stroke=0.5),
        Part(buckle + path[0], STEEL, 0.35, holes=[rectangle(3.6, 2.9, 0.4) + path[0]]),
        Part(rectangle(4.2, 0.4) + path[0], STEEL, 0.3),
    ]


def fruit(rng: np.random.Generator) -> list[Part]:
    """An apple or an orange."""
    width = rng.uniform(6, 9)
    return [Part(ellipse(width, width * rng.uniform(0.85, 1)), FOOD, width * 0.8, "round")]


def glasses(rng: np.random.Generator) -> list[Part]:
    """Spectacles in a case."""
    lens = [ellipse(5.0, 4.0, (x, 0)) for x in (-3.2, 3.2)]
    arms = [polygon((x, -0.5), (x * 1.02, 2), (-x * 0.5, 2.6)) for x in (-5.7, 5.7)]
    return [
        Part(rectangle(15.5, 6, 2.5), PLASTIC, 0.5),
        *[Part(outline, GLASS, 0.22) for outline in lens],
        *[Part(outline, STEEL, 0.12, stroke=0.25) for outline in lens + arms],
    ]


def umbrella(rng: np.random.Generator) -> list[Part]:
    """A folding umbrella: cloth roll, steel shaft and ribs, handle."""
    length = rng.uniform(20, 27)
    ribs = [Part(rectangle(length * 0.8, 0.16, 0, (-0.06 * length, y)), STEEL, 0.16) for y in np.linspace(-1.6, 1.6, 7)]
    return [
        Part(rectangle(length, 5, 1.5), CLOTH, 3.5, "round", texture=0.3, grain=0.7),
        Part(rectangle(length * 0.95, 0.9), ALUMINIUM, 0.5, "shell", 0.1),
        *ribs,
        Part(rectangle(5, 3, 1, (length / 2 + 2, 0)), PLASTIC, 2.2, "round"),
    ]


def pens(rng: np.random.Generator) -> list[Part]:
    """Pens and pencils side by side."""
    parts = []
    for k in range(rng.integers(1, 4)):
        y, angle = 1.1 * k, rng.uniform(-12, 12)
        parts.append(Part(turned(rectangle(14, 0.9, 0.3, (0, y)), angle), PLASTIC, 0.9, "shell", 0.15))
        parts.append(Part(turned(rectangle(3, 0.35, 0, (5, y)), angle), STEEL, 0.12))
    return parts


_WEIGHTS = {
    clothes: 5,
    book: 1.5,
    cable: 2.5,
    charger: 1.5,
    laptop: 0.7,
    phone: 1,
    shoe: 1.5,
    toiletries: 2,
    keys: 1.2,
    coins: 1,
    belt: 0.8,
    fruit: 1,
    glasses: 0.8,
    umbrella: 0.6,
    pens: 1.2,
}
_MAKERS = tuple(_WEIGHTS)
_SHARES = np.array(list(_WEIGHTS.values())) / sum(_WEIGHTS.values())
