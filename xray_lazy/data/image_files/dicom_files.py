"""DICOM and DICOS files: their samples as they are stored, and what tells which image it is."""

import io
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from xray_lazy.data.image_files.image_bytes import UnreadableImage, file_bytes, open_file, unreadable

if TYPE_CHECKING:
    from pydicom import Dataset

DICOM_SUFFIXES = (".dcm", ".dcs", ".dicom", ".dicos")

# in which the transfer syntax stands
_META_BYTES = 2**16


def is_dicom(path: str | os.PathLike) -> bool:
    """Whether a file's name is that of DICOM or DICOS."""
    return Path(path).suffix.lower() in DICOM_SUFFIXES


def read_dicom(path: str | os.PathLike, order: str) -> np.ndarray:
    """The stored samples (height, width, channels): frames are channels, colours come in this order.

    Nothing is inverted, rescaled or windowed: `dataloader.reader` says what samples mean.

    Raises:
        UnreadableImage: it is no image of DICOM's, damaged, or of a compression that needs another package.
    """
    from pydicom.pixels import pixel_array

    header = _of_image(path, _read(io.BytesIO(file_bytes(path)), path))
    try:
        samples = pixel_array(header)
    except Exception as error:  # of damaged samples, and of compressions without a decoder
        raise unreadable(path, error) from None
    if header.get("SamplesPerPixel", 1) == 1:
        return samples[:, :, None] if samples.ndim == 2 else np.moveaxis(samples, 0, 2)
    if samples.ndim != 3:
        raise UnreadableImage(path, f"has {len(samples)} frames of colours, and one is expected")
    return samples if order == "RGB" else samples[:, :, ::-1]


def dicom_shape(path: str | os.PathLike) -> tuple[int, int, int]:
    """(height, width, channels) from the header; raises UnreadableImage."""
    header = _of_image(path, dicom_header(path))
    channels = int(header.get("NumberOfFrames") or 1) * int(header.get("SamplesPerPixel") or 1)
    return int(header.Rows), int(header.Columns), channels


def dicom_header(path: str | os.PathLike) -> "Dataset":
    """All of a file but its pixels; raises UnreadableImage."""
    try:
        with open(path, "rb", opener=open_file) as stream:
            return _read(stream, path, stop_before_pixels=True)
    except OSError as error:
        raise unreadable(path, error) from None


def _read(stream: BinaryIO, path: str | os.PathLike, stop_before_pixels: bool = False) -> "Dataset":
    from pydicom import dcmread
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    try:
        # pydicom unpacks these to whatever they hold before it knows of an image
        start = stream.read(_META_BYTES)
        if DeflatedExplicitVRLittleEndian.encode() in start:
            raise UnreadableImage(path, "is compressed as a whole, not its image: store it in another transfer syntax")
        stream.seek(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom's remarks on odd values, which images don't need
            return dcmread(stream, stop_before_pixels=stop_before_pixels)
    except UnreadableImage:
        raise
    except Exception as error:  # it has no one class of errors for damaged files
        raise unreadable(path, error) from None


def _of_image(path: str | os.PathLike, header: "Dataset") -> "Dataset":
    if not (header.get("Rows") and header.get("Columns")):
        raise UnreadableImage(path, f"is a DICOM file without an image ({header.get('Modality') or 'of no modality'})")
    return header
