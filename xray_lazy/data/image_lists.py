"""Lists of images by name, as public sets have them for their splits and subsets."""

from pathlib import Path, PurePath

from xray_lazy.errors import UserError

ENDINGS = ("jpg", "jpeg", "png", "bmp", "tif", "tiff")


def read_image_list(path: Path) -> list[str]:
    """Names as `image_stem` gives them, one or a CSV's row to a line, in the file's order.

    Raises:
        UserError: the file can't be read.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} can't be read as a list of images: {error}", "one name on each line") from None
    names = [line.split(",")[0].strip() for line in lines if line.strip()]
    return list(map(image_stem, names[1:] if names[:1] == ["name"] else names))


def image_stem(name: str) -> str:
    """An image's name without folders and ending; lists leave these out."""
    last = PurePath(name).name
    stem, dot, ending = last.rpartition(".")
    return stem if dot and ending.lower() in ENDINGS else last
