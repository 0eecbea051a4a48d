"""Guns: pistols and revolvers, in cm, the muzzle to the left."""

import numpy as np

from xray_lazy.data.synthetic.materials import BRASS, PLASTIC, RUBBER, STEEL, WOOD
from xray_lazy.data.synthetic.object_parts import Part
from xray_lazy.data.synthetic.outlines import polygon, rectangle, smooth


def gun(rng: np.random.Generator) -> list[Part]:
    """A pistol, or one time in three a revolver."""
    return _revolver(rng) if rng.random() < 0.33 else _pistol(rng)


def _pistol(rng: np.random.Generator) -> list[Part]:
    length, height = rng.uniform(17, 21), rng.uniform(2.6, 3.4)
    rear, muzzle, rake = length / 2, -length / 2, rng.uniform(1.2, 3.0)
    grip_length, grip_width = rng.uniform(8.0, 10.0), rng.uniform(3.4, 4.4)
    front = rear - 1.2 - grip_width
    slide = polygon((muzzle, -height), (rear - 0.6, -height), (rear, -height + 0.8), (rear, 0), (muzzle, 0))
    frame = polygon((muzzle + 2.5, 0), (rear, 0), (rear - 0.3, 1.4), (front - 5, 1.4), (muzzle + 2.8, 0.9))
    grip = polygon(
        (front, 0.5),
        (rear - 0.6, 0.5),
        (rear - 0.4, 2.0),
        (rear - 1.0 + rake, grip_length),
        (front + 0.4 + rake, grip_length + 0.4),
        (front + 0.2, 3.0),
    )
    magazine = polygon(
        (front + 0.8, 1), (rear - 1.6, 1), (rear - 1.8 + rake, grip_length), (front + 0.9 + rake, grip_length)
    )
    guard = smooth(
        polygon((front - 4.2, 1.0), (front - 4.0, 3.8), (front + 0.2, 4.0), (front + 0.6, 2.4)), 2, closed=False
    )
    trigger = smooth(polygon((front - 1.5, 1.2), (front - 1.3, 2.2), (front - 1.9, 3.2)), 2, closed=False)
    grip_material, thickness = (PLASTIC, 2.4) if rng.random() < 0.5 else (STEEL, 0.35)
    return [
        Part(slide, STEEL, rng.uniform(0.45, 0.8)),
        Part(rectangle(length * 0.55, 1.3, center=(muzzle + length * 0.28, -height * 0.55)), STEEL, 0.6, "shell", 0.25),
        Part(frame, STEEL, rng.uniform(0.3, 0.5)),
        Part(smooth(grip, 1), grip_material, thickness, "plate"),
        Part(magazine, STEEL, 0.22),
        *[
            Part(rectangle(2.2, 0.8, 0.2, (front + 1.9 + rake * k / 7, 2 + k)), BRASS, 0.25, "round")
            for k in range(int(grip_length) - 3)
        ],
        Part(guard, STEEL, 0.5, stroke=0.6),
        Part(trigger, STEEL, 0.4, stroke=0.5),
    ]


def _revolver(rng: np.random.Generator) -> list[Part]:
    barrel = rng.uniform(6, 11)
    grip_length = rng.uniform(7, 9)
    frame = polygon((-2.8, -2.6), (3.2, -2.6), (4.2, -1.2), (4.2, 1.6), (-2.8, 1.6))
    grip = smooth(
        polygon((2.4, 0.4), (4.4, -0.6), (6.2, 3), (7.2, grip_length), (4.4, grip_length + 1), (3.4, 4.5), (1.6, 2.2)),
        2,
    )
    guard = smooth(polygon((-2.2, 1.2), (-2.2, 4.4), (1.6, 4.6), (2.4, 2.0)), 2, closed=False)
    hammer = smooth(polygon((3.6, -2), (4.6, -3.4), (5.6, -3.2)), 1, closed=False)
    grip_material, thickness = (WOOD, 2.6) if rng.random() < 0.5 else (RUBBER, 2.4)
    return [
        Part(rectangle(barrel, 1.9, 0.2, (-2.8 - barrel / 2, -1.5)), STEEL, 1.0, "shell", 0.45),
        Part(polygon((-2.8 - barrel, -2.4), (-2.0 - barrel, -3.1), (-1.2 - barrel, -2.4)), STEEL, 0.3),
        Part(frame, STEEL, 0.45),
        Part(rectangle(4.0, 3.9, 0.5, (-0.4, -0.6)), STEEL, 1.0, "round"),
        *[Part(rectangle(3.2, 0.7, 0.2, (-0.4, y)), BRASS, 0.3, "round") for y in (-1.7, -0.6, 0.5)],
        Part(grip, grip_material, thickness, "round"),
        Part(smooth(polygon((3.2, 1), (5.2, 4), (5.8, grip_length)), 2, closed=False), STEEL, 0.4, stroke=0.9),
        Part(guard, STEEL, 0.5, stroke=0.6),
        Part(smooth(polygon((-0.2, 1.4), (0.1, 2.6), (-0.5, 3.6)), 2, closed=False), STEEL, 0.4, stroke=0.5),
        Part(hammer, STEEL, 0.5, stroke=0.7),
    ]
