"""Image files as training sees them: upright by their EXIF orientation, 8 bits, three channels, whole; or all bits."""

import io
import math
import os
import struct
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from xray_lazy.data.image_files.dicom_files import DICOM_SUFFIXES
from xray_lazy.data.image_files.image_bytes import (
    SeveralPages,
    TooManyPixels,
    TruncatedImage,
    UnreadableImage,
    file_bytes,
    open_file,
    unreadable,
)
from xray_lazy.data.image_files.stored_arrays import array_shape, is_array, read_array, read_tiff

# OpenCV tells of damaged files on stderr, once per file and without the name; the exceptions below say more.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
# OpenCV, which decodes, refuses more. Pillow, which reads headers here, does so above twice the number that it has.
MOST_PIXELS = 2**30
Image.MAX_IMAGE_PIXELS = MOST_PIXELS // 2

# Every format that both `image_size` and `read_image` know.
IMAGE_SUFFIXES = frozenset(
    [
        *DICOM_SUFFIXES,
        *(".apng", ".avif", ".bmp", ".dib", ".gif", ".j2c", ".j2k", ".jfif", ".jp2", ".jpc", ".jpe", ".jpeg", ".jpf"),
        *(".jpg", ".jpx", ".mpo", ".npy", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".ras", ".sr", ".tif", ".tiff"),
        ".webp",
    ]
)

# What Pillow may take a file for: with others, such as EPS, it starts programs that run what is in the file.
_FORMATS = ("PNG", "JPEG", "BMP", "DIB", "GIF", "PPM", "TIFF", "WEBP", "AVIF", "JPEG2000", "SUN")  # MPO is a JPEG
_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
_PNG_START, _PNG_END = b"\x89PNG", b"IEND"
# beside the critical ones: transparency, orientation and frames
_PNG_CHUNKS_OF_PIXELS = frozenset({b"tRNS", b"eXIf", b"bKGD", b"acTL", b"fcTL", b"fdAT"})
_ORDERS = {"BGR": cv2.IMREAD_COLOR_BGR, "RGB": cv2.IMREAD_COLOR_RGB}
_WIDTH_TAG, _HEIGHT_TAG, _ORIENTATION_TAG = 0x100, 0x101, 0x112
# A TIFF's kind of a page, of which the lowest bit says that it is another one in small.
_KIND_TAG, _IN_SMALL = 0xFE, 1
# How files of formats with pages or frames begin; AVIF's and PNG's are looked at more closely.
_STARTS_OF_PAGES = (b"II", b"MM", b"GIF8", b"RIFF")
_FORMATS_OF_PAGES = ("TIFF", "GIF", "WEBP", "AVIF", "PNG")
# What Pillow raises for a damaged file.
_OF_PILLOW = (OSError, ValueError, SyntaxError, EOFError, struct.error, Image.DecompressionBombError)


def image_size(path: str | os.PathLike, most_pixels: float = math.inf) -> tuple[int, int]:
    """(width, height) in pixels after the EXIF orientation, from the file's header alone.

    Args:
        most_pixels: of the image; of `.npy` files and TIFFs times their channels.

    Raises:
        UnreadableImage: there is no such file or its header is not that of an image; TooManyPixels, SeveralPages.
    """
    if is_array(path) and (shape := array_shape(path)):
        _check_pixels(path, shape[1], shape[0], shape[2], most_pixels)
        return shape[1], shape[0]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's remarks on odd EXIF blocks and on very large images
            with open(path, "rb", opener=open_file) as stream, Image.open(stream, formats=_FORMATS) as image:
                # Pillow decodes a PNG to know its orientation
                _check_pixels(path, *image.size, 1, most_pixels)
                size = _upright_size(image)
                _refuse_pages(path, image)
                return size
    except _OF_PILLOW as error:
        raise unreadable(path, error) from None


def image_sizes(paths: Iterable[str | os.PathLike]) -> Iterator[tuple[int, int] | UnreadableImage]:
    """`image_size` of each path in their order, read in threads; of one that can't be read, why not."""

    def size_of(path: str | os.PathLike) -> tuple[int, int] | UnreadableImage:
        try:
            return image_size(path)
        except UnreadableImage as error:
            return error

    with ThreadPoolExecutor() as pool:
        yield from pool.map(size_of, paths)


def is_turned(path: str | os.PathLike) -> bool:
    """Whether the EXIF orientation swaps the width and height that the file stores; False if it can't be read."""
    try:
        with open(path, "rb", opener=open_file) as stream, Image.open(stream, formats=_FORMATS) as image:
            return image.getexif().get(_ORIENTATION_TAG, 1) in (5, 6, 7, 8)
    except _OF_PILLOW:
        return False


def read_image(path: str | os.PathLike, order: str = "BGR") -> np.ndarray:
    """The image as (height, width, 3) uint8, channels in this `order` (or "RGB"), upright by its EXIF orientation.

    Grey images get three equal channels, transparency is dropped, and of 16-bit samples the upper 8 bits are kept.

    Raises:
        UnreadableImage: MissingImage, TruncatedImage, SeveralPages, or itself for a damaged or unknown file.
    """
    if read_array(path, order) is not None:
        raise UnreadableImage(
            path, "is an array, no image of 8-bit colours: dataloader.reader.window says how it is read"
        )
    return _decoded(path, _ORDERS[order])


def read_all_bits(path: str | os.PathLike) -> np.ndarray:
    """As `read_image`, with samples of as many bits as the file has: uint8, uint16 or float32.

    Raises:
        UnreadableImage: as `read_image`.
    """
    return _decoded(path, cv2.IMREAD_COLOR_BGR | cv2.IMREAD_ANYDEPTH)


def read_samples(path: str | os.PathLike, order: str = "BGR") -> np.ndarray:
    """The samples as the file stores them: (height, width, channels), upright, integers or floats of any size.

    Colours come in this `order` (or "RGB") and without transparency, other channels in the file's order. Pages of a
    TIFF are channels, and so is the shortest axis of an array whose axes have no names.

    Raises:
        UnreadableImage: as `read_image`.
    """
    if (samples := read_array(path, order)) is not None:
        return samples
    if is_array(path) and (samples := read_tiff(path, order)) is not None:
        return samples
    image = _decoded(path, cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH)
    if image.ndim == 2:
        return image[:, :, None]
    return image if order == "BGR" else np.ascontiguousarray(image[:, :, ::-1])


def _decoded(path: str | os.PathLike, flags: int) -> np.ndarray:
    data = file_bytes(path)
    # OpenCV 4 fills the missing rows of a JPEG with grey, so the end is looked for first; a file with something
    # behind its end is rare and gets Pillow's slower, strict opinion.
    suspicious = _has_no_end(data)
    if suspicious and (reason := _pillow_objection(data)):
        raise TruncatedImage(path, f"is cut off after {len(data)} bytes ({reason})")
    if _may_have_pages(data):
        with suppress(*_OF_PILLOW), Image.open(io.BytesIO(data), formats=_FORMATS) as header:
            _refuse_pages(path, header)
    try:
        image = cv2.imdecode(np.frombuffer(_without_remarks(data), np.uint8), flags)
    except cv2.error as error:
        raise UnreadableImage(path, f"can't be decoded ({error.err or error})") from None
    if image is None:
        reason = _pillow_objection(data)
        if suspicious or "truncated" in reason:
            raise TruncatedImage(path, f"is cut off after {len(data)} bytes")
        raise UnreadableImage(path, f"can't be decoded ({reason or 'a format or depth that OpenCV does not read'})")
    return image


def _check_pixels(path: str | os.PathLike, width: int, height: int, channels: int, most: float) -> None:
    if width * height * channels > most:
        of = f" of {channels} channels" if channels > 1 else ""
        raise TooManyPixels(path, f"is {width}x{height}{of}, and {most / 1e6:g} megapixels are the most")


def _upright_size(image: Image.Image) -> tuple[int, int]:
    width, height = image.size
    if image.format == "TIFF":
        # Pillow has turned a TIFF's size already or not, depending on its version; the tags are as stored.
        tags: Any = getattr(image, "tag_v2", {})
        width, height = tags.get(_WIDTH_TAG, width), tags.get(_HEIGHT_TAG, height)
    if image.getexif().get(_ORIENTATION_TAG, 1) in (5, 6, 7, 8):
        return height, width
    return width, height


def _without_remarks(data: bytes) -> bytes:
    """A PNG without the chunks that its pixels don't need: libpng prints a line for each faulty one, and no name."""
    if not data.startswith(_PNG_START):
        return data
    kept, start, at = [], 0, 8
    while at + 12 <= len(data):
        name, end = data[at + 4 : at + 8], at + 12 + int.from_bytes(data[at : at + 4], "big")
        is_critical = not name[0] & 0x20
        if not is_critical and name not in _PNG_CHUNKS_OF_PIXELS:
            kept.append(data[start:at])
            start = end
        at = end
    return b"".join([*kept, data[start:]]) if kept else data


def _may_have_pages(data: bytes) -> bool:
    """Whether a file is of a format with pages or frames, which its start tells without a decoder."""
    if data.startswith(_PNG_START):
        return b"acTL" in data[: data.find(b"IDAT")]
    return data.startswith(_STARTS_OF_PAGES) or data[4:12] == b"ftypavis"


def _refuse_pages(path: str | os.PathLike, image: Image.Image) -> None:
    """Of several pages or frames the decoder gives the first one, and nobody would look at the others."""
    pages = 1
    with suppress(*_OF_PILLOW):  # what is damaged is told where it is decoded
        pages = getattr(image, "n_frames", 1) if image.format in _FORMATS_OF_PAGES else 1
        if pages > 1 and image.format == "TIFF":
            pages = sum(not _is_in_small(image, number) for number in range(pages))
    if pages > 1:
        raise SeveralPages(path, f"has {pages} pages or frames: save each as an image of its own")


def _is_in_small(image: Image.Image, page: int) -> bool:
    image.seek(page)
    tags: Any = getattr(image, "tag_v2", {})
    return bool(tags.get(_KIND_TAG, 0) & _IN_SMALL)


def _has_no_end(data: bytes) -> bool:
    tail = data[-64:].rstrip(b"\0")
    if data.startswith(_JPEG_START):
        return not tail.endswith(_JPEG_END)
    return data.startswith(_PNG_START) and _PNG_END not in tail


def _pillow_objection(data: bytes) -> str:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            Image.open(io.BytesIO(data), formats=_FORMATS).load()
    except UnidentifiedImageError:
        return "not an image"
    except _OF_PILLOW as error:
        return str(error)
    return ""
