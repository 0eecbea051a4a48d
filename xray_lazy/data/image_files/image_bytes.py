"""Image files as bytes: what can't be opened says why."""

import errno
import os
import stat

from PIL import Image, UnidentifiedImageError

from xray_lazy.errors import UserError


class UnreadableImage(UserError):
    """An image that can't be used; `path` says which and `why` the reason."""

    advice = "export or copy the image again"

    def __init__(self, path: str | os.PathLike, why: str):
        super().__init__(f"image {path} {why}", self.advice)
        self.path = path
        self.why = why

    def __reduce__(self):
        return type(self), (self.path, self.why)


class MissingImage(UnreadableImage):
    """There is no such file."""


class TruncatedImage(UnreadableImage):
    """The file ends before its image does."""


class SeveralPages(UnreadableImage):
    """The file has more images than the one that would be looked at."""

    advice = "grey pages of a TIFF that are channels of one image: dataloader.reader.window reads them so"


class TooManyPixels(UnreadableImage):
    """The image is larger than it may be."""

    advice = "make it smaller, or cut it"


def file_bytes(path: str | os.PathLike) -> bytes:
    """What is in a file.

    Raises:
        UnreadableImage: it can't be read, or is empty.
    """
    try:
        with open(path, "rb", opener=open_file) as stream:
            data = stream.read()
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from None
    if not data:
        raise UnreadableImage(path, "is an empty file")
    return data


def open_file(path: str, flags: int) -> int:
    """For `open`: a pipe is no image, and is not waited for; nor is a device, which may never end."""
    descriptor = os.open(path, flags | os.O_NONBLOCK)
    mode = os.fstat(descriptor).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # of folders, `open` itself complains
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a file", path)
    return descriptor


def unreadable(path: str | os.PathLike, error: Exception) -> UnreadableImage:
    """What an error while a file was read says to the user."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return MissingImage(path, "does not exist")
    if isinstance(error, IsADirectoryError):
        return UnreadableImage(path, "is a folder")
    if isinstance(error, Image.DecompressionBombError):
        return TooManyPixels(path, f"has too many pixels ({error})")
    if isinstance(error, UnidentifiedImageError):
        return UnreadableImage(path, "is not an image")
    return UnreadableImage(path, f"can't be read ({getattr(error, 'strerror', None) or error})")
