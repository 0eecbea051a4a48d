"""Named parts of a set, from lists of its images."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from xray_lazy.data.image_lists import image_stem, read_image_list
from xray_lazy.errors import UserError

Subsets = Mapping[str, set[str]]


def read_subset(path: str) -> set[str]:
    """Names of images without their ending: from a COCO file, or from a list, one or a CSV's row to a line.

    Raises:
        UserError: the file is not there, or empty.
    """
    file = Path(path)
    if file.suffix == ".json":
        from xray_lazy.data.coco_file import read_coco

        content = read_coco(file, needed=("images",))
        names = [image_stem(str(one.get("file_name", ""))) for one in content["images"]]
    else:
        names = read_image_list(file)
    if not names:
        raise UserError(f"{path} names no images", "one name on each line, or a COCO file")
    return set(names)


def parts_of(names: Sequence[str], subsets: Subsets) -> dict[str, list[int]]:
    """Numbers of the images of each subset.

    Raises:
        UserError: a subset has none.
    """
    stems = list(map(image_stem, names))
    parts = {part: [place for place, stem in enumerate(stems) if stem in members] for part, members in subsets.items()}
    for part, places in parts.items():
        if not places:
            raise UserError(
                f"no image of the subset {part} is in the ground truth: it names {min(subsets[part])}, "
                f"and the ground truth has {stems[0]}",
                "give the list that belongs to this test set",
            )
    return parts
