"""What the things are carried in: suitcases, backpacks, handbags and trays, in cm around the origin."""

from typing import NamedTuple

import numpy as np

from xray_lazy.data.synthetic.materials import (
    ALUMINIUM,
    BRASS,
    CLOTH,
    LEATHER,
    PLASTIC,
    POLYETHYLENE,
    PVC,
    RUBBER,
    STEEL,
)
from xray_lazy.data.synthetic.object_parts import Part
from xray_lazy.data.synthetic.outlines import ellipse, polygon, rectangle, smooth, wandering_path


class Luggage(NamedTuple):
    """A bag's parts, and the width and height in cm of the room inside."""

    parts: list[Part]
    room: tuple[float, float]


def make_luggage(rng: np.random.Generator, largest: tuple[float, float]) -> Luggage:
    """A random bag of at most `largest` (width, height) cm."""
    maker = (suitcase, backpack, handbag, tray)[rng.choice(4, p=[0.4, 0.3, 0.2, 0.1])]
    width = rng.uniform(0.78, 1.0) * min(largest[0], 58)
    height = rng.uniform(0.82, 1.0) * min(largest[1], 40)
    return maker(rng, width, height)


def suitcase(rng: np.random.Generator, width: float, height: float) -> Luggage:
    """A trolley case: shell with ribs, zip, lining, two telescopic rails, wheels, handle."""
    outline = rectangle(width, height, rng.uniform(3, 6))
    inner = outline * [1 - 2.2 / width, 1 - 2.2 / height]
    parts = [
        Part(outline, PLASTIC, rng.uniform(0.35, 0.6), texture=0.15, grain=3),
        Part(outline, PLASTIC, 9.0, "shell", 0.06),
        *_piping(outline, PVC, 0.5),
        *_piping(inner, CLOTH, 1.4),
        *_zip(np.concatenate([inner, inner[:1]]), rng),
    ]
    gap = height * rng.uniform(0.16, 0.26)
    rail = width * rng.uniform(0.7, 0.95)
    for y in (-gap, gap):
        parts.append(Part(rectangle(rail, 1.6, 0.1, ((width - rail) / 2, y)), ALUMINIUM, rng.uniform(0.25, 0.4)))
        parts.append(Part(rectangle(rail * 0.5, 1.0, 0.1, ((width - rail) / 2, y)), ALUMINIUM, 0.25))
    parts.append(Part(rectangle(2.2, gap * 2 + 2.5, 0.8, (width / 2 + 0.6, 0)), PLASTIC, 1.6))
    for y in (-height * 0.4, height * 0.4):
        parts.append(Part(ellipse(4.6, 3.2, (-width / 2 - 0.8, y)), RUBBER, 2.4))
        parts.append(Part(ellipse(1.2, 1.2, (-width / 2 - 0.8, y)), STEEL, 0.6))
    for y in np.linspace(-height * 0.42, height * 0.42, rng.integers(0, 7)):
        parts.append(Part(rectangle(width * 0.9, 0.7, 0.3, (0, y)), PLASTIC, 0.25))
    return Luggage(parts + _wrinkles(width, height, rng), (width * 0.9, height * 0.86))


def backpack(rng: np.random.Generator, width: float, height: float) -> Luggage:
    """A backpack lying on its back: cloth, pocket, straps with buckles, zips, back foam."""
    bulge = rng.uniform(0.75, 0.95)
    outline = smooth(
        np.array([[-1, -0.9], [-0.2, -1], [0.8, -bulge], [1, -0.4], [1, 0.4], [0.8, bulge], [-0.2, 1], [-1, 0.9]])
        * [width / 2, height / 2],
        3,
    )
    pocket = rectangle(width * 0.42, height * 0.66, 4, (-width * 0.22, 0))
    parts = [
        Part(outline, CLOTH, rng.uniform(1.6, 3.0), texture=0.35, grain=rng.uniform(1, 3)),
        Part(outline, CLOTH, 9.0, "shell", 0.3),
        Part(rectangle(width * 0.8, height * 0.7, 3), POLYETHYLENE, 0.12, texture=0.3),
        *_piping(outline, CLOTH, 2.0),
        *_piping(pocket, CLOTH, 1.6),
        *_zip(outline * 0.95, rng),
        *_zip(pocket, rng),
    ]
    for side in (-1, 1):
        strap = smooth(
            polygon(
                (width * 0.42, side * height * 0.12),
                (width * 0.1, side * height * 0.34),
                (-width * 0.44, side * height * 0.4),
            ),
            2,
            closed=False,
        )
        parts.append(Part(strap, CLOTH, 3.0, stroke=rng.uniform(3, 5), texture=0.2))
        parts.append(Part(rectangle(2.6, 2.0, 0.2, strap[-3]), PLASTIC, 0.8, holes=[rectangle(1.4, 1.0, 0, strap[-3])]))
    grip = smooth(
        polygon((width / 2 - 1, -3), (width / 2 + 2.5, -2.4), (width / 2 + 2.5, 2.4), (width / 2 - 1, 3)),
        2,
        closed=False,
    )
    parts += [Part(grip, CLOTH, 3.0, stroke=1.6), *_wrinkles(width, height, rng)]
    return Luggage(parts, (width * 0.86, height * 0.8))


def handbag(rng: np.random.Generator, width: float, height: float) -> Luggage:
    """A handbag or briefcase: leather, two handles on rings, a frame of wire, studs."""
    width, height = width * rng.uniform(0.8, 1), height * rng.uniform(0.85, 1)
    outline = rectangle(width, height, rng.uniform(3, 9))
    outline[:, 0] *= 1 - rng.uniform(0, 0.2) * (0.5 - outline[:, 1] / height)
    parts = [
        Part(outline, LEATHER, rng.uniform(0.4, 0.8), texture=0.25, grain=2),
        *_piping(outline, LEATHER, 1.0),
        Part(np.concatenate([outline, outline[:1]]) * 0.985, STEEL, 0.12, stroke=0.22),
        Part(np.concatenate([outline, outline[:1]]) * [0.95, 0.93], STEEL, 0.1, stroke=0.2),
        *_zip(polygon((-width * 0.36, -height * 0.4), (width * 0.36, -height * 0.4)), rng),
    ]
    for offset in (0.0, 1.6):
        x, top = width * 0.2 + offset, -height / 2
        handle = smooth(
            polygon((-x, top + 4), (-x, top - 3), (0, top - 6), (x, top - 3), (x, top + 4)), 3, closed=False
        )
        parts.append(Part(handle, LEATHER, 1.2, stroke=1.1))
        parts += [Part(ellipse(2.2, 2.2, (end, top + 4)), BRASS, 0.25, stroke=0.35) for end in (-x, x)]
    studs = [(sx * width * 0.4, sy * height * 0.4) for sx in (-1, 1) for sy in (-1, 1)]
    return Luggage(parts + [Part(ellipse(1.1, 1.1, at), BRASS, 0.3) for at in studs], (width * 0.86, height * 0.84))


def tray(rng: np.random.Generator, width: float, height: float) -> Luggage:
    """A plastic tray with its rim and ribs, as for electronics and coats."""
    outline = rectangle(width, height, 3)
    ribs = [
        Part(rectangle(0.35, height * 0.9, 0, (x, 0)), POLYETHYLENE, 0.5) for x in np.linspace(-0.45, 0.45, 9) * width
    ]
    return Luggage(
        [
            Part(outline, POLYETHYLENE, 0.4),
            *_piping(outline, POLYETHYLENE, 3.5),
            *_piping(outline * 0.93, POLYETHYLENE, 1.2),
            *ribs,
        ],
        (width * 0.86, height * 0.84),
    )


def _piping(outline: np.ndarray, material, thickness: float) -> list[Part]:
    """A seam all around."""
    return [Part(np.concatenate([outline, outline[:1]]), material, thickness, stroke=0.7)]


def _wrinkles(width: float, height: float, rng: np.random.Generator) -> list[Part]:
    """Folds of the lining and of thin things in it."""
    return [
        Part(
            wandering_path(rng, rng.uniform(0.2, 0.6) * width, 3, 15) + rng.uniform(-0.3, 0.3, 2) * (width, height),
            CLOTH,
            rng.uniform(0.5, 1.5),
            stroke=rng.uniform(0.2, 0.8),
        )
        for _ in range(rng.integers(4, 12))
    ]


def _zip(path: np.ndarray, rng: np.random.Generator) -> list[Part]:
    """A zip along the path: a fine line of teeth, and sliders with their pulls."""
    material, thickness = (BRASS, 0.06) if rng.random() < 0.5 else (PLASTIC, 0.4)
    parts = [Part(path, material, thickness, stroke=0.35)]
    for place in path[rng.integers(0, len(path), 2)]:
        angle = rng.uniform(0, 2 * np.pi)
        pull = place + 1.6 * np.array([np.cos(angle), np.sin(angle)])
        parts.append(Part(rectangle(1.2, 0.9, 0.2, place), BRASS, 0.35))
        parts.append(Part(np.stack([place, pull]), BRASS, 0.2, stroke=0.6))
        parts.append(Part(ellipse(1.1, 1.1, pull), BRASS, 0.25, stroke=0.3))
    return parts
