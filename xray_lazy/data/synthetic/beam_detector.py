"""From attenuation to an image: what two detectors count, and the colours that a scanner makes of it."""

from functools import lru_cache
from statistics import NormalDist

import cv2
import numpy as np

from xray_lazy.data.synthetic.profiles import ScannerProfile

# What a detector reads where nothing gets through: scattered photons.
DARKEST = 1e-3
# Counts without a beam, and with nothing in it: some room is left for noise above it.
DARK, FULL_BEAM = 500, 60000
# Ratios of the attenuations at low and high energy which are shown as pure organic, mixed and metal.
RATIOS = (1.25, 1.65, 2.60)
# Above this attenuation too few photons arrive to tell materials apart; scanners show it as metal.
IMPENETRABLE = (4.5, 6.0)
# The colour table's axes end here: -ln(DARKEST) is below it.
_DEEPEST = 8.0
# The normal distribution in 256 equal shares: as fine as the image's own levels, and ten times as fast to draw.
_NORMAL = np.array([NormalDist().inv_cdf((k + 0.5) / 256) for k in range(256)], np.float32)


def scan(attenuation: np.ndarray, profile: ScannerProfile, rng: np.random.Generator) -> np.ndarray:
    """The image (H, W, 3), uint8 BGR, of what absorbs (2, H, W) at the low and the high energy."""
    return pseudo_colour(measure(attenuation, profile, rng), profile)


def transmission(attenuation: np.ndarray) -> np.ndarray:
    """The share of the beam that passes (Beer and Lambert): objects one behind the other multiply."""
    return cv2.exp(-attenuation)


def measure(attenuation: np.ndarray, profile: ScannerProfile, rng: np.random.Generator) -> np.ndarray:
    """-ln of the measured transmission, (2, H, W): with blur, photon noise, electronic noise and uneven lines.

    Photon noise is Poisson's in its normal limit: where that is a bad approximation, below some 30 photons, the
    electronic noise is the larger one.
    """
    height, width = attenuation.shape[1:]
    measured = np.empty((2, height, width), np.float32)
    gain = 1 + profile.line_noise * rng.standard_normal((height, 1), dtype=np.float32)
    for plane, passed, photons in zip(measured, map(transmission, attenuation), profile.photons, strict=True):
        cv2.GaussianBlur(passed, (0, 0), profile.blur, dst=passed)
        np.multiply(passed, np.float32(1 / photons), out=plane)
        plane += np.float32(profile.electronic_noise**2)
        cv2.sqrt(plane, plane)
        plane *= cv2.LUT(rng.integers(0, 256, (height, width), np.uint8), _NORMAL)
        plane += passed
        plane *= gain
        np.maximum(plane, np.float32(DARKEST), out=plane)
        cv2.log(plane, plane)
        np.negative(plane, out=plane)
    return measured


def detector_counts(attenuation: np.ndarray) -> np.ndarray:
    """What the detectors' electronics give, (2, H, W) uint16, for -ln of the measured transmission."""
    return np.rint(DARK + (FULL_BEAM - DARK) * transmission(attenuation)).clip(0, 2**16 - 1).astype(np.uint16)


def pseudo_colour(attenuation: np.ndarray, profile: ScannerProfile) -> np.ndarray:
    """Colours (H, W, 3), uint8 BGR: the hue from the material, the brightness from the attenuation (2, H, W)."""
    low, high = attenuation
    total = cv2.addWeighted(low, 0.5, high, 0.5, 0)
    softer = cv2.GaussianBlur(total, (0, 0), 1.5 * max(profile.blur, 0.7))
    table = _colour_table(profile)
    scale, amount = (table.shape[1] - 1) / _DEEPEST, profile.edge_enhancement
    column = cv2.addWeighted(total, (1 + amount) * scale, softer, -amount * scale, 0)
    # Noise averages out over neighbours; air alone counts as organic, or it would get a random hue.
    row = cv2.blur(low, (3, 3))
    row += np.float32(0.03 * RATIOS[0])
    row /= np.maximum(cv2.blur(high, (3, 3)), 0) + np.float32(0.03)
    row -= np.float32(RATIOS[0])
    row *= np.float32((table.shape[0] - 1) / (RATIOS[2] - RATIOS[0]))
    # The table is fine enough to take its nearest entry; outside of it, its edge.
    return cv2.remap(table, column, row, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)


@lru_cache
def _colour_table(profile: ScannerProfile) -> np.ndarray:
    """Colours by ratio and attenuation, (ratios, attenuations, 3), uint8 BGR."""
    depth = np.linspace(0, _DEEPEST, 2049)[None, :]
    ratios = np.linspace(RATIOS[0], RATIOS[2], 129)[:, None]
    # 0 for organic over 0.5 for mixed to 1 for metal
    material = np.maximum(np.interp(ratios, RATIOS, (0, 0.5, 1)), np.interp(depth, IMPENETRABLE, (0, 1)))
    # Each channel falls off like light in a dye. Dark parts are compressed, so that the inside of metal objects can
    # be seen, up to where hardly anything passes, which is nearly black.
    shown = depth / (1 + depth / 6)
    black = 0.25 * np.maximum(depth - 5, 0) ** 2
    channels = [
        air * np.exp(-np.interp(material, (0, 0.5, 1), dye) * shown - black)
        for air, dye in zip(profile.air, np.array(profile.dyes).T, strict=True)
    ]
    return np.ascontiguousarray(np.round(np.stack(channels[::-1], axis=-1)).astype(np.uint8))
