"""The labelled items: one function per class, which makes the parts of one random item in cm around the origin."""

import numpy as np

from xray_lazy.data.synthetic.guns import gun
from xray_lazy.data.synthetic.materials import (
    ALKALINE_CELL,
    ALUMINIUM,
    BRASS,
    BUTANE,
    CIRCUIT_BOARD,
    GLASS,
    LITHIUM_CELL,
    PLASTIC,
    POLYETHYLENE,
    RUBBER,
    STEEL,
    WATER,
    WOOD,
    Material,
)
from xray_lazy.data.synthetic.object_parts import Part, centered, moved
from xray_lazy.data.synthetic.outlines import ellipse, lathe, polygon, rectangle, smooth, turned


def make_item(name: str, rng: np.random.Generator) -> list[Part]:
    """The parts of a random item of the class `name`."""
    return _MAKERS[name](rng)


def knife(rng: np.random.Generator) -> list[Part]:
    """A kitchen knife, a dagger or a cleaver with a riveted handle."""
    handle, width = rng.uniform(9.5, 12.5), rng.uniform(2.2, 3.2)
    kind = rng.choice(["kitchen", "dagger", "cleaver"], p=[0.55, 0.3, 0.15])
    blade = rng.uniform(11, 19) if kind != "cleaver" else rng.uniform(13, 17)
    height = {"kitchen": rng.uniform(2.6, 4.6), "dagger": rng.uniform(2.2, 3.2), "cleaver": rng.uniform(6.5, 9)}[kind]
    if kind == "kitchen":
        edge = [(-blade * 0.55, height * 0.78), (-blade * 0.85, height * 0.35), (-blade, -height * 0.05)]
        outline = polygon((0, -height * 0.22), (0, height * 0.78), *edge, (-blade * 0.7, -height * 0.18))
    elif kind == "dagger":
        outline = polygon(
            (0, -height / 2),
            (0, height / 2),
            (-blade * 0.7, height * 0.42),
            (-blade, 0),
            (-blade * 0.7, -height * 0.42),
        )
    else:
        outline = rectangle(blade, height, 0.8, (-blade / 2, height * 0.3))
    grip = lathe(
        (0, width * 0.48),
        (handle * 0.15, width * 0.42),
        (handle * 0.5, width * 0.5),
        (handle * 0.8, width * 0.44),
        (handle, width * 0.55),
    )
    material = WOOD if rng.random() < 0.5 else PLASTIC
    parts = [
        Part(outline, STEEL, rng.uniform(0.26, 0.4), "plate" if kind == "cleaver" else "wedge"),
        Part(outline, STEEL, 0.08),
        Part(smooth(grip, 2), material, rng.uniform(1.8, 2.4), "round"),
        Part(rectangle(handle * 0.9, width * 0.5, 0.3, (handle * 0.45, 0)), STEEL, 0.22),
        *[Part(ellipse(0.7, 0.7, (handle * at, 0)), BRASS, 0.8) for at in (0.2, 0.5, 0.8)],
    ]
    if kind == "dagger":
        parts.append(Part(rectangle(1.0, height * 1.9, 0.4, (0, 0)), STEEL, 0.5))
    return centered(parts)


def scissors(rng: np.random.Generator) -> list[Part]:
    """Two blades that cross at a screw, each with a ring for the fingers."""
    blade, shank, opening = rng.uniform(7, 11), rng.uniform(4.5, 6.5), rng.uniform(6, 24)
    ring_width, ring_height = rng.uniform(4.2, 5.6), rng.uniform(2.8, 3.6)
    plastic = rng.random() < 0.55
    parts = []
    for side in (1, -1):
        half = polygon(
            (-blade, 0.1), (-blade * 0.6, -0.75), (0, -0.8), (shank, -0.5), (shank, 0.5), (0, 0.8), (-blade * 0.9, 0.35)
        )
        ring = ellipse(ring_width, ring_height, (shank + ring_width * 0.42, ring_height * 0.36))
        pieces = [Part(half, STEEL, rng.uniform(0.22, 0.34))]
        if plastic:
            pieces += [Part(ring, PLASTIC, 1.4, "round", stroke=1.0), Part(ring, STEEL, 0.15, stroke=0.35)]
            pieces += [Part(rectangle(shank * 0.6, 1.4, 0.4, (shank * 0.75, 0.1)), PLASTIC, 1.2)]
        else:
            pieces += [Part(ring, STEEL, 0.45, stroke=0.7)]
        parts += [moved(piece, lambda p, s=side: turned(p * [1, s], s * opening / 2)) for piece in pieces]
    parts.append(Part(ellipse(1.1, 1.1), STEEL, 0.5))
    return centered(parts)


def battery(rng: np.random.Generator) -> list[Part]:
    """Round cells, one to four of them side by side, or a 9 V block."""
    if rng.random() < 0.2:
        cells = [
            Part(rectangle(4.2, 0.68, 0.1, (0.1, y)), ALKALINE_CELL, 1.1, "round")
            for y in (-0.95, 0.0, 0.95)
            for _ in (0, 1)
        ]
        poles = [Part(ellipse(0.5, 0.9, (-2.5, y)), STEEL, 0.4) for y in (-0.65, 0.65)]
        return [Part(rectangle(4.8, 2.65, 0.25), STEEL, 0.07), *cells, *poles]
    length, diameter = [(6.1, 3.3), (5.0, 2.6), (5.0, 1.45), (6.5, 1.85)][rng.choice(4, p=[0.35, 0.25, 0.2, 0.2])]
    count = int(rng.integers(1, 3)) if diameter > 2 else int(rng.integers(2, 5))
    parts = []
    for index in range(count):
        y, way = (index - (count - 1) / 2) * diameter * 1.02, rng.choice([-1, 1])
        cell = [
            Part(rectangle(length, diameter, 0.15, (0, y)), STEEL, 0.6, "shell", 0.04),
            Part(
                rectangle(length * 0.9, diameter * 0.92, 0.1, (-0.1 * way, y)), ALKALINE_CELL, diameter * 0.7, "round"
            ),
            Part(rectangle(0.35, diameter * 0.34, 0.05, (way * (length / 2 + 0.17), y)), STEEL, 0.5),
            Part(rectangle(length * 0.7, diameter * 0.12, 0, (0, y)), BRASS, diameter * 0.1),
        ]
        parts += cell
    if count > 1 and rng.random() < 0.6:
        parts.append(Part(rectangle(length + 1, count * diameter * 1.02 + 0.4, 0.3), PLASTIC, 0.3))
    return parts


def bottle(rng: np.random.Generator) -> list[Part]:
    """A bottle of plastic or glass, full or half empty."""
    radius, body, shoulder, neck = rng.uniform(2.9, 4.0), rng.uniform(10, 15), rng.uniform(2, 4.5), rng.uniform(2, 4)
    half = (body + shoulder + neck) / 2
    throat = rng.uniform(1.1, 1.5)
    waist = radius * rng.uniform(0.86, 1.0)
    stations = [
        (-half, radius * 0.9),
        (-half + 0.5, radius),
        (-half + body * 0.4, radius),
        (-half + body * 0.55, waist),
        (-half + body * 0.75, radius),
        (-half + body, radius),
        (-half + body + shoulder * 0.6, radius * 0.7),
        (-half + body + shoulder, throat),
        (half, throat),
    ]
    glass = rng.random() < 0.25
    wall, material = (0.35, GLASS) if glass else (0.08, POLYETHYLENE)
    level = -half + 0.3 + (body + shoulder * 0.5) * rng.uniform(0.55, 1.0)
    filled = [(x, r - wall) for x, r in stations if x < level]
    filled.append((level, filled[-1][1] if level < -half + body else radius * 0.75))
    return [
        Part(lathe(*stations), material, 2 * radius, "shell", wall),
        Part(lathe(*filled), WATER, 2 * (radius - wall), "round"),
        Part(rectangle(rng.uniform(1.2, 2.0), 2 * throat + 0.5, 0.2, (half - 0.4, 0)), POLYETHYLENE, 1.8, "plate"),
    ]


def wrench(rng: np.random.Generator) -> list[Part]:
    """A combination wrench: an open jaw at one end, a ring at the other."""
    length, size, thickness = rng.uniform(14, 23), rng.uniform(1.4, 2.2), rng.uniform(0.4, 0.65)
    half = length / 2
    jaw = turned(
        polygon(
            (1.3, -1.1),
            (0.6, -1.75),
            (-1.5, -1.5),
            (-1.6, -0.8),
            (0, -0.75),
            (0, 0.75),
            (-1.6, 0.8),
            (-1.5, 1.5),
            (0.6, 1.75),
            (1.3, 1.1),
        ),
        15,
    )
    hexagon = ellipse(1.5, 1.5)[::8]
    return [
        Part(rectangle(length - 1.5 * size, size * 0.75, 0.3), STEEL, thickness * 0.8),
        Part(jaw * size * 0.8 + [-half, 0], STEEL, thickness),
        Part(ellipse(size * 1.9, size * 1.9, (half, 0)), STEEL, thickness, holes=[hexagon * size * 0.75 + [half, 0]]),
    ]


def pliers(rng: np.random.Generator) -> list[Part]:
    """Two jaws, a joint, and two bowed handles in sleeves."""
    jaw, handle, opening = rng.uniform(3.5, 6.5), rng.uniform(9, 13), rng.uniform(3, 12)
    spread = rng.uniform(1.6, 2.4)
    parts = []
    for side in (1, -1):
        head = polygon((-jaw, 0.05), (-jaw, 0.4), (-jaw * 0.4, 1.1), (0.5, 1.3), (1.2, 0.2), (0, -0.6))
        bow = smooth(
            polygon((0.6, -0.4), (2.5, -1.1), (handle * 0.4, -spread), (handle, -spread * 0.8)), 2, closed=False
        )
        sleeve = bow[len(bow) // 3 :]
        pieces = [
            Part(head, STEEL, rng.uniform(0.6, 0.9)),
            Part(bow, STEEL, 0.5, stroke=0.8),
            Part(sleeve, PLASTIC, 1.2, "round", stroke=1.5),
        ]
        parts += [moved(piece, lambda p, s=side: turned(p * [1, s], s * opening / 2)) for piece in pieces]
    parts.append(Part(ellipse(2.0, 2.0), STEEL, 0.5))
    return centered(parts)


def hammer(rng: np.random.Generator) -> list[Part]:
    """A claw hammer or a machinist's hammer."""
    length, head, width = rng.uniform(19, 27), rng.uniform(8, 11), rng.uniform(1.7, 2.3)
    steel_handle = rng.random() < 0.4
    face = [
        Part(rectangle(2.4, head * 0.35, 0.2, (0, -head * 0.05)), STEEL, 1.8),
        Part(rectangle(width * 1.5, head * 0.18, 0.2, (0, -head * 0.36)), STEEL, 2.2),
        Part(rectangle(width, head * 0.2, 0.1, (0, -head * 0.22)), STEEL, 1.6),
    ]
    if rng.random() < 0.6:
        claw = smooth(
            polygon(
                (-1.1, 0.8), (1.1, 0.8), (1.0, head * 0.3), (2.4, head * 0.52), (0.4, head * 0.4), (-0.9, head * 0.25)
            ),
            1,
        )
        face.append(Part(claw, STEEL, 1.1))
    else:
        face.append(Part(polygon((-1.2, 0.5), (1.2, 0.5), (0.3, head * 0.5), (-0.3, head * 0.5)), STEEL, 1.6))
    shaft = lathe((0.5, 0.9), (length * 0.3, 0.8), (length * 0.6, 1.15), (length * 0.9, 1.25), (length, 1.4))
    handle = [Part(shaft, WOOD, 2.2, "round")]
    if steel_handle:
        handle = [
            Part(rectangle(length * 0.95, 1.1, 0.3, (length * 0.48, 0)), STEEL, 0.7),
            Part(rectangle(length * 0.45, 2.7, 0.8, (length * 0.77, 0)), RUBBER, 2.4, "round"),
        ]
    return centered([*face, *handle])


def lighter(rng: np.random.Generator) -> list[Part]:
    """A gas lighter: a plastic tank, a metal hood, a wheel."""
    length, width = rng.uniform(6.0, 7.0), rng.uniform(2.2, 2.6)
    hood = rng.uniform(1.3, 1.7)
    end = -length / 2
    return [
        Part(rectangle(length, width, 0.5), PLASTIC, 1.2, "shell", 0.15),
        Part(rectangle(length * rng.uniform(0.6, 0.9), width - 0.4, 0.4, (0.3, 0)), BUTANE, 1.0, "round"),
        Part(rectangle(length * 0.8, 0.3, 0, (0.2, 0)), PLASTIC, 1.0),
        Part(rectangle(hood, width * 0.95, 0.2, (end + 0.1, 0)), STEEL, 0.12),
        Part(ellipse(1.0, 1.0, (end + 0.1, -width * 0.2)), STEEL, 0.6),
        Part(rectangle(0.8, 0.6, 0, (end + 0.2, width * 0.25)), BRASS, 0.4),
        Part(rectangle(0.25, width, 0, (length / 2 - 0.3, 0)), STEEL, 0.05),
    ]


def power_bank(rng: np.random.Generator) -> list[Part]:
    """Lithium cells, round or flat, beside a circuit board in a plastic case."""
    length, width = rng.uniform(9, 15), rng.uniform(6, 8)
    board = [
        Part(rectangle(1.4, width * 0.88, 0, (length / 2 - 1.2, 0)), CIRCUIT_BOARD, 0.3),
        *[Part(rectangle(0.9, 1.1, 0.1, (length / 2 - 0.9, width * at)), STEEL, 0.12) for at in (-0.28, 0.0, 0.28)],
        Part(ellipse(0.9, 0.9, (length / 2 - 1.8, width * 0.14)), STEEL, 0.3),
    ]
    inner = length - 3.0
    if rng.random() < 0.5:
        count = int(width // 2)
        cells = [
            Part(rectangle(inner, 1.8, 0.1, (-0.9, (k - (count - 1) / 2) * 1.95)), LITHIUM_CELL, 1.6, "round")
            for k in range(count)
        ]
    else:
        cells = [Part(rectangle(inner, width * 0.84, 0.3, (-0.9, 0)), LITHIUM_CELL, rng.uniform(0.7, 1.1))]
        cells.append(Part(rectangle(inner * 0.96, 0.25, 0, (-0.9, width * 0.38)), ALUMINIUM, 0.3))
    return [Part(rectangle(length, width, rng.uniform(0.4, 1.2)), PLASTIC, 0.5), *cells, *board]


def razor_blade(rng: np.random.Generator) -> list[Part]:
    """A double-edged blade with its slot, or a trapezoid one of a cutter."""
    if rng.random() < 0.5:
        slot = lathe((-1.6, 0.12), (-1.2, 0.12), (-1.0, 0.4), (-0.7, 0.4), (-0.5, 0.12), (-0.2, 0.4), (0.2, 0.4))
        slot = np.concatenate([slot[: len(slot) // 2], -slot[: len(slot) // 2]])
        return [Part(rectangle(4.3, 2.2, 0.15), STEEL, rng.uniform(0.05, 0.1), holes=[slot])]
    outline = polygon((-3.0, 0.95), (3.0, 0.95), (2.1, -0.95), (-2.1, -0.95))
    holes = [ellipse(0.5, 0.5, (-0.8, -0.4)), ellipse(0.5, 0.5, (0.8, -0.4))]
    return [Part(outline, STEEL, 0.08, holes=holes), Part(outline * [1, 0.7], STEEL, 0.05, holes=holes)]


def handcuffs(rng: np.random.Generator) -> list[Part]:
    """Two toothed rings and the chain or hinge between them."""
    ring, gap = rng.uniform(6.0, 7.2), rng.uniform(2.5, 5.0)
    bend = rng.uniform(-50, 50)
    parts = []
    for side in (1, -1):
        center = np.array([side * (gap + ring) / 2, 0.0])
        pieces = [
            Part(ellipse(ring, ring * 0.86, center), STEEL, 0.5, stroke=0.9),
            Part(ellipse(ring * 0.97, ring * 0.83, center, 20, 160), STEEL, 0.3, stroke=1.2),
            Part(rectangle(1.9, 3.2, 0.4, (side * (gap / 2 + 0.2), 0)), STEEL, 0.6),
        ]
        parts += [moved(piece, lambda p, s=side: turned(p, s * bend / 2)) for piece in pieces]
    links = np.linspace(-gap / 2, gap / 2, 3)
    chain = [Part(ellipse(gap * 0.55, 0.9, (x, bend * 0.004 * gap)), STEEL, 0.4, stroke=0.35) for x in links]
    return centered([*parts, *chain])


def spray_can(rng: np.random.Generator) -> list[Part]:
    """A metal can under pressure: domed ends, a dip tube, a valve, a cap."""
    radius, length = rng.uniform(2.4, 3.3), rng.uniform(12, 18)
    half = length / 2
    metal, wall = (STEEL, 0.025) if rng.random() < 0.6 else (ALUMINIUM, 0.06)
    level = half * rng.uniform(-0.2, 0.7)
    tube = smooth(polygon((half, 0), (0, 0.2), (-half * 0.9, radius * 0.5)), 2, closed=False)
    body = lathe((-half, radius * 0.96), (half - 0.6, radius), (half + 0.4, radius * 0.75), (half + 0.8, radius * 0.45))
    parts: list[Part] = [
        Part(body, metal, 2 * radius, "shell", wall),
        Part(body, metal, 0.05),
        Part(
            rectangle(level + half, 2 * radius - 0.2, 0.2, ((level - half) / 2, 0)), _content(rng), 2 * radius, "round"
        ),
        Part(ellipse(radius * 0.8, radius * 1.9, (-half, 0), -90, 90), metal, 0.3, stroke=0.25),
        Part(rectangle(0.35, 2 * radius, 0, (half - 0.6, 0)), STEEL, 0.15),
        Part(rectangle(1.6, 1.2, 0.2, (half + 1.0, 0)), STEEL, 0.2),
        Part(rectangle(1.3, 0.8, 0.2, (half + 2.0, 0)), POLYETHYLENE, 0.8),
        Part(tube, POLYETHYLENE, 0.4, stroke=0.35),
    ]
    if rng.random() < 0.6:
        parts.append(Part(rectangle(3.4, 2 * radius * 0.95, 0.4, (half + 1.4, 0)), POLYETHYLENE, 1.2, "shell", 0.12))
    return centered(parts)


def _content(rng: np.random.Generator) -> Material:
    return WATER if rng.random() < 0.5 else BUTANE


_MAKERS = {
    maker.__name__: maker
    for maker in (
        gun,
        knife,
        scissors,
        battery,
        bottle,
        wrench,
        pliers,
        hammer,
        lighter,
        power_bank,
        razor_blade,
        handcuffs,
        spray_can,
    )
}
