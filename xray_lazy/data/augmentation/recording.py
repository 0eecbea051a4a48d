"""What makes two recordings of one bag differ: the detectors' gain, the beam, photon noise, and JPEG."""

from collections.abc import Sequence

import cv2
import numpy as np
from detectron2.data import transforms as T

from xray_lazy.data.augmentation.ranges import MOST_SCALE, check_range
from xray_lazy.data.augmentation.transmission import white_level
from xray_lazy.data.followed_transforms import PixelTransform
from xray_lazy.errors import UserError

# Length of the strip of noise values; each image takes a random part of it, far faster than drawing noise anew
NOISE_VALUES, NOISE_SEED = 2**21, 0
# A standard deviation in the strip's whole numbers, and the parts of a grey level in which it is given:
# products of the strip's largest values, 6 of its deviations, and of MOST_NOISE fit into 16 bits
NOISE_UNIT, PARTS, SHIFT, MOST_NOISE = 2**5, 2**3, 8, 20.0
AT_A_TIME = 2**16  # values that noise is put on, which stay in the processor's cache


class RandomScannerResponse(T.Augmentation):
    """The same bag by another day's scanner: intensity `white * gain * transmission ** attenuation`, and photon noise.

    Materials keep their order: what lets through less stays darker, in each channel.

    Args:
        gain: range of the factor on all that arrives at the detectors.
        attenuation: range of the factor on what bags absorb; more than 1 is a softer beam, or thicker things.
        channels: how far both factors of one channel may be from those of all, as a share: energies drift apart.
        noise: range of the standard deviation where all comes through, in grey levels; it falls with the root of
            what comes through, as that of photons does.
    """

    needs_colours = True

    def __init__(
        self,
        gain: Sequence[float] = (0.92, 1.04),
        attenuation: Sequence[float] = (0.85, 1.2),
        channels: float = 0.05,
        noise: Sequence[float] = (0.0, 4.0),
    ):
        super().__init__()
        check_range("a scanner's response", "gain", gain, least=0.01, most=MOST_SCALE)
        check_range("a scanner's response", "attenuation", attenuation, least=0.01, most=MOST_SCALE)
        check_range("a scanner's response", "noise", noise, least=0, most=MOST_NOISE)
        if not 0 <= channels < 1:
            raise UserError(f"channels can't differ by {channels} of their value", "set channels to 0 up to 1")
        self.gain, self.attenuation, self.channels, self.noise = gain, attenuation, channels, noise

    def get_transform(self, image: np.ndarray) -> T.Transform:
        white = white_level(image)
        apart = np.random.uniform(1 - self.channels, 1 + self.channels, (2, 3))
        gains, exponents = apart * [[drawn(self.gain)], [drawn(self.attenuation)]]
        transmitted = np.arange(256)[:, None] / white
        table = np.rint((white * gains * transmitted**exponents).clip(0, 255)).astype(np.uint8)
        deviation, start = drawn(self.noise), int(np.random.randint(NOISE_VALUES))
        return PixelTransform(lambda pixels: with_noise(cv2.LUT(pixels, table[:, None]), deviation, start))


def with_noise(image: np.ndarray, deviation: float, start: int = 0) -> np.ndarray:
    """Photon noise added in place: of `deviation` grey levels at 255, less by the root of the intensity below.

    Args:
        image: uint8, contiguous.
        start: where in the strip of noise to begin, below `NOISE_VALUES`.
    """
    if not deviation:
        return image
    deviations = np.rint(np.sqrt(np.arange(256) / 255) * deviation * PARTS).astype(np.int16)
    strip, values = _noise_strip(), image.reshape(-1, 1)
    for first in range(0, len(values), AT_A_TIME):
        part = values[first : first + AT_A_TIME]
        place = (start + first) % NOISE_VALUES
        noise: np.ndarray = cv2.LUT(part, deviations)
        noise *= strip[place : place + len(part), None]
        noise += NOISE_UNIT * PARTS // 2  # rounds
        noise >>= SHIFT
        cv2.add(part, noise, part, dtype=cv2.CV_8U)
    return image


_strip: np.ndarray | None = None


def _noise_strip() -> np.ndarray:
    """Normal noise of a standard deviation of `NOISE_UNIT`, once for each process; its beginning follows its end."""
    global _strip
    if _strip is None:
        normal = np.random.Generator(np.random.PCG64(NOISE_SEED)).standard_normal(NOISE_VALUES, np.float32)
        whole = np.rint(normal * NOISE_UNIT).astype(np.int16)
        _strip = np.concatenate([whole, whole[:AT_A_TIME]])
    return _strip


class RandomJpeg(T.Augmentation):
    """What a JPEG file of a random quality leaves of an image.

    Args:
        quality: range, of 100.
        image_format: order of the channels, "BGR" or "RGB".
    """

    needs_colours = True

    def __init__(self, quality: Sequence[int] = (60, 95), image_format: str = "BGR"):
        super().__init__()
        check_range("JPEG", "quality", quality, least=1, most=100)
        self.quality, self.image_format = quality, image_format

    def get_transform(self, image: np.ndarray) -> T.Transform:
        quality = int(np.random.randint(self.quality[0], self.quality[1] + 1))
        is_rgb = self.image_format == "RGB"
        return PixelTransform(lambda pixels: as_jpeg(pixels, quality, is_rgb))


def as_jpeg(image: np.ndarray, quality: int, is_rgb: bool = False) -> np.ndarray:
    """`image` written as JPEG and read again; BGR but for `is_rgb`."""
    bgr = image[:, :, ::-1] if is_rgb else image
    _, file = cv2.imencode(".jpg", np.ascontiguousarray(bgr), [cv2.IMWRITE_JPEG_QUALITY, quality])
    read = cv2.imdecode(file, cv2.IMREAD_COLOR)
    assert read is not None
    return cv2.cvtColor(read, cv2.COLOR_BGR2RGB) if is_rgb else read


def drawn(values: Sequence[float]) -> float:
    """Evenly between the two, from numpy's global state, which the loader seeds."""
    low, high = values
    return float(np.random.uniform(low, high))
