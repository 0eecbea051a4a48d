"""Named parts of a set, from lists of its images."""

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath

from xray_lazy.errors import UserError

Subsets = Mapping[str, set[str]]
ENDINGS = ("jpg", "jpeg", "png", "bmp", "tif", "tiff")


def read_subset(path: str) -> set[str]:
    """Names of images without their ending: from a COCO file, or from a list, one or a CSV's row to a line.

    Raises:
        UserError: the file is not there, or empty.
    """
    file = Path(path)
    if file.suffix == ".json":
        from xray_lazy.data.coco_file import read_coco

        names = [str(one.get("file_name", "")) for one in read_coco(file, needed=("images",))["images"]]
    else:
        try:
            lines = file.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{path} can't be read as a list of images: {error}", "one name on each line") from None
        names = [line.split(",")[0].strip() for line in lines if line.strip()]
        names = names[1:] if names[:1] == ["name"] else names
    if not names:
        raise UserError(f"{path} names no images", "one name on each line, or a COCO file")
    return set(map(_stem, names))


def _stem(name: str) -> str:
    """Without folders and ending; lists leave these out."""
    last = PurePath(name).name
    stem, dot, ending = last.rpartition(".")
    return stem if dot and ending.lower() in ENDINGS else last


def parts_of(names: Sequence[str], subsets: Subsets) -> dict[str, list[int]]:
    """Numbers of the images of each subset.

    Raises:
        UserError: a subset has none.
    """
    stems = list(map(_stem, names))
    parts = {part: [place for place, stem in enumerate(stems) if stem in members] for part, members in subsets.items()}
    for part, places in parts.items():
        if not places:
            raise UserError(
                f"no image of the subset {part} is in the ground truth: it names {min(subsets[part])}, "
                f"and the ground truth has {stems[0]}",
                "give the list that belongs to this test set",
            )
    return parts
