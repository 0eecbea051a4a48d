"""Outlines of objects as points (N, 2) in cm, x to the right and y down."""

import numpy as np


def rectangle(width: float, height: float, radius: float = 0.0, center=(0.0, 0.0)) -> np.ndarray:
    """A rectangle around `center`, its corners rounded by `radius`."""
    radius = min(radius, width / 2, height / 2)
    corners = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) * [width / 2 - radius, height / 2 - radius]
    if radius == 0:
        return corners + center
    angles = np.radians(np.arange(0, 91, 15))
    arcs = [corner + radius * _circle(angles + turn * np.pi / 2) for turn, corner in enumerate(corners)]
    return np.concatenate(arcs) + center


def ellipse(width: float, height: float, center=(0.0, 0.0), start: float = 0.0, stop: float = 360.0) -> np.ndarray:
    """An ellipse, or its arc from `start` to `stop` degrees (clockwise as seen, 0 is to the right)."""
    angles = np.radians(np.linspace(start, stop, 49))
    return _circle(angles) * [width / 2, height / 2] + center


def polygon(*points: tuple[float, float]) -> np.ndarray:
    """The points as they are."""
    return np.array(points, dtype=float)


def smooth(points: np.ndarray, rounds: int = 2, closed: bool = True) -> np.ndarray:
    """Cut the corners off, `rounds` times (Chaikin, 1974): a few points become a soft curve."""
    points = np.asarray(points, dtype=float)
    for _ in range(rounds):
        following = np.roll(points, -1, axis=0)
        cut = np.stack([0.75 * points + 0.25 * following, 0.25 * points + 0.75 * following], axis=1)
        points = cut.reshape(-1, 2) if closed else np.concatenate([points[:1], cut[:-1].reshape(-1, 2), points[-1:]])
    return points


def lathe(*stations: tuple[float, float]) -> np.ndarray:
    """The outline of a body turned around the x axis: stations are (x, radius) from end to end."""
    upper = np.array(stations, dtype=float)
    return np.concatenate([upper, upper[::-1] * [1, -1]])


def turned(points: np.ndarray, degrees: float, center=(0.0, 0.0)) -> np.ndarray:
    """The points turned around `center`, clockwise as seen."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return (np.asarray(points) - center) @ np.array([[cosine, sine], [-sine, cosine]]) + center


def blob(rng: np.random.Generator, width: float, height: float, roughness: float = 0.2) -> np.ndarray:
    """An irregular round outline, as of a folded shirt."""
    radii = 1 + roughness * rng.uniform(-1, 1, 9)
    angles = np.linspace(0, 2 * np.pi, 9, endpoint=False)
    return smooth(_circle(angles) * radii[:, None] * [width / 2, height / 2], 3)


def wandering_path(rng: np.random.Generator, length: float, step: float = 2.0, bend: float = 50.0) -> np.ndarray:
    """An open path as of a cable thrown into a bag, around the origin."""
    turns = np.radians(rng.normal(0, bend, max(3, int(length / step)))).cumsum()
    path = np.concatenate([[[0, 0]], (step * _circle(turns)).cumsum(axis=0)])
    return smooth(path - path.mean(axis=0), 3, closed=False)


def _circle(angles: np.ndarray) -> np.ndarray:
    return np.stack([np.cos(angles), np.sin(angles)], axis=-1)
