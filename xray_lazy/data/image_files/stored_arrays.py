"""`.npy` files, DICOM and TIFFs with any number of channels and bits, as arrays (height, width, channels)."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from xray_lazy.data.image_files.dicom_files import DICOM_SUFFIXES, dicom_shape, is_dicom, read_dicom
from xray_lazy.data.image_files.image_bytes import UnreadableImage, file_bytes, open_file, unreadable

NPY_SUFFIX = ".npy"
TIFF_SUFFIXES = (".tif", ".tiff")
# an image's side, rather than channels
MOST_CHANNELS = 1024

_NPY_START = b"\x93NUMPY"
_ORIENTATION_TAG = 274
_RGB, _ALPHA = 2, (1, 2)  # photometric interpretation; kinds of extra samples
# a TIFF's orientations, and how they come upright
_TURNS = {
    1: lambda image: image,
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.transpose(1, 0, 2),
    6: lambda image: np.rot90(image, 3),
    7: lambda image: image.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda image: np.rot90(image, 1),
}


def is_array(path: str | os.PathLike) -> bool:
    """Whether a file's name is that of a format with any number of channels."""
    return Path(path).suffix.lower() in (NPY_SUFFIX, *DICOM_SUFFIXES, *TIFF_SUFFIXES)


def read_array(path: str | os.PathLike, order: str) -> np.ndarray | None:
    """The array in a `.npy` file or DICOM's, colours of these in this order; None for others.

    Raises:
        UnreadableImage: it is damaged, or of a kind that can't be read.
    """
    if is_dicom(path):
        return _checked(path, read_dicom(path, order))
    return _checked(path, _channels_last(path, _mapped(path))) if Path(path).suffix.lower() == NPY_SUFFIX else None


def read_tiff(path: str | os.PathLike, order: str) -> np.ndarray | None:
    """The samples of a TIFF, upright, colours in this order; None for 8-bit colours and one page
    of 8-bit grey, which OpenCV reads in all their compressions and colour spaces.

    Raises:
        UnreadableImage: it is damaged, or of a kind that can't be read.
    """
    with _opened_tiff(path) as file:
        if file is None or _is_plain(file):
            return None
        return _checked(path, _arranged(path, file, _tiff_samples(path, file), order))


def array_shape(path: str | os.PathLike) -> tuple[int, int, int] | None:
    """(height, width, channels) from the header of a `.npy` file, DICOM or a TIFF, upright; None for those that
    `read_tiff` leaves.

    Raises:
        UnreadableImage: as `read_tiff`.
    """
    if is_dicom(path):
        return dicom_shape(path)
    if Path(path).suffix.lower() == NPY_SUFFIX:
        image = _channels_last(path, _mapped(path))
    else:
        with _opened_tiff(path) as file:
            if file is None or _is_plain(file):
                return None
            series = file.series[0]
            image = _arranged(path, file, np.broadcast_to(np.zeros((), series.dtype), series.shape), "RGB")
    return image.shape


def _mapped(path: str | os.PathLike) -> np.ndarray:
    try:
        with open(path, "rb", opener=open_file) as stream:
            if not stream.read(len(_NPY_START)) == _NPY_START:
                raise UnreadableImage(path, "is no .npy file")
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, SyntaxError, TypeError) as error:
        raise unreadable(path, error) from None


@contextmanager
def _opened_tiff(path: str | os.PathLike) -> Iterator[Any]:
    """None for what is no TIFF: Pillow and OpenCV know other formats under its suffix, or say what is wrong."""
    import tifffile

    try:
        with open(path, "rb", opener=open_file) as stream:
            try:
                # kinds that name other files, wherever these are, to be read with this one
                file = tifffile.TiffFile(stream, is_ome=False, is_mmstack=False, is_ndtiff=False)
            except tifffile.TiffFileError:
                file = None
            yield file
    except UnreadableImage:
        raise
    except Exception as error:  # tifffile has no one class of errors for damaged files
        raise unreadable(path, error) from None


def _is_plain(file: Any) -> bool:
    """Whether OpenCV reads all of it."""
    page = file.pages.first
    extra = len(page.extrasamples)
    is_colour = page.samplesperpixel - extra >= 3
    return page.bitspersample <= 8 and (extra <= 1 if is_colour else not extra and len(file.pages) == 1)


def _tiff_samples(path: str | os.PathLike, file: Any) -> np.ndarray:
    """In the file's order. Where a compression needs imagecodecs, OpenCV may know it."""
    series, page = file.series[0], file.pages.first
    try:
        return series.asarray()
    except (ValueError, KeyError) as error:
        if "imagecodecs" not in str(error):
            raise
        # OpenCV decodes all pages, of which this image's may be few
        is_whole, pages = sum(one.size for one in file.pages) == series.size, ()
        if is_whole:
            is_whole, pages = cv2.imdecodemulti(np.frombuffer(file_bytes(path), np.uint8), cv2.IMREAD_UNCHANGED)
        if not is_whole or sum(one.size for one in pages) != series.size:
            raise UnreadableImage(path, f"can't be decoded ({error}: pip install imagecodecs)") from None
    if int(page.photometric) == _RGB:
        pages = [one[..., [2, 1, 0, *range(3, one.shape[-1])]] for one in pages]
    return np.stack(pages).reshape(series.shape)


def _arranged(path: str | os.PathLike, file: Any, samples: np.ndarray, order: str) -> np.ndarray:
    page = file.pages.first
    image = _channels_last(path, samples, file.series[0].axes)
    extra = list(map(int, page.extrasamples))
    if int(page.photometric) == _RGB and image.shape[2] == page.samplesperpixel:
        if image.shape[2] == 4 and extra and extra[0] in _ALPHA:
            image = image[:, :, :3]
        if image.shape[2] == 3 and order == "BGR":
            image = image[:, :, ::-1]
    tags = page.tags
    return _TURNS.get(int(tags[_ORIENTATION_TAG].value) if _ORIENTATION_TAG in tags else 1, _TURNS[1])(image)


def _channels_last(path: str | os.PathLike, samples: np.ndarray, axes: str = "") -> np.ndarray:
    """As (height, width, channels); `axes` has tifffile's letters, of which S and C are channels."""
    if samples.ndim > 3:
        kept = [place for place, size in enumerate(samples.shape) if size > 1]
        axes = "".join(axes[place] for place in kept) if axes else ""
        samples = samples.reshape([samples.shape[place] for place in kept])
    if samples.ndim == 2:
        return samples[:, :, None]
    if samples.ndim != 3:
        shape = "x".join(map(str, samples.shape)) or "of a number"
        raise UnreadableImage(path, f"is no image: its shape is {shape}")
    named = next((axes.index(letter) for letter in "SC" if letter in axes), None)
    # of equal sizes the last one
    shortest = min((2, 1, 0), key=lambda place: samples.shape[place])
    return np.moveaxis(samples, shortest if named is None else named, 2)


def _checked(path: str | os.PathLike, samples: np.ndarray) -> np.ndarray:
    if not samples.size:
        raise UnreadableImage(path, "has no pixels")
    if samples.dtype.kind not in "uif":
        raise UnreadableImage(path, f"has samples that are no numbers ({samples.dtype})")
    if samples.shape[2] > MOST_CHANNELS:
        raise UnreadableImage(path, f"has {samples.shape[2]} channels")
    if samples.dtype.kind == "f" and not np.isfinite(samples).all():
        raise UnreadableImage(path, "has samples that are not finite")
    return np.array(samples, samples.dtype.newbyteorder("="), order="C")
