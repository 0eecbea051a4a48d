"""The sets to check: by JSON file and folder, or by name."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from xray_lazy.data.coco_file import Repeated, read_coco
from xray_lazy.data.dataset_places import DatasetSource, find_source
from xray_lazy.errors import UserError


@dataclass(frozen=True)
class CocoSet:
    """One COCO set in memory.

    Attributes:
        name: how the report calls it.
        content: the JSON's content as `read_coco` gives it; it is never changed.
        images_dir: the folder of its images, or None where only the JSON is looked at.
        json_file: where the content came from.
        repeated: keys that objects of the content give several times, as `read_coco` tells them.
    """

    name: str
    content: dict
    images_dir: Path | None = None
    json_file: Path | None = None
    repeated: Repeated = field(default_factory=dict)


def open_sets(arguments: Sequence[str], root: str | None = None, images: bool = True) -> list[CocoSet]:
    """Read the sets that a command line names.

    Args:
        arguments: names (`xray_smith_val`) and pairs of a JSON file and its folder, in any order.
        root: the folder of the named sets.
        images: False allows a JSON file without a folder.

    Raises:
        UserError: a set, its folder or the second half of a pair is missing, or a file is not COCO.
    """
    sets, rest = [], list(arguments)
    while rest:
        argument = rest.pop(0)
        is_file = Path(argument).exists() and not Path(argument).is_dir()  # also a pipe, of `<(zcat set.json.gz)`
        if not argument.lower().endswith(".json") and not is_file:
            sets.append(_set(find_source(argument, root)))
            continue
        if rest and Path(rest[0]).is_dir():
            sets.append(_set(find_source({"json_file": argument, "image_root": rest.pop(0), "name": argument})))
        elif images:
            found = f"{rest[0]!r} is no folder" if rest else "there is none"
            raise UserError(
                f"after {argument} the folder of its images is expected, and {found}",
                "give ANNOTATIONS.json IMAGES_DIR, as often as there are sets",
            )
        else:
            sets.append(_read(argument, Path(argument), None))
    return sets


def _set(source: DatasetSource) -> CocoSet:
    return _read(source.name, source.json_file, source.image_root)


def _read(name: str, json_file: Path, images_dir: Path | None) -> CocoSet:
    repeated: Repeated = {}
    return CocoSet(name, read_coco(json_file, repeated=repeated), images_dir, json_file, repeated)


def other_format(content: dict) -> str:
    """What a set holds if none of its annotations is an instance with a box or a mask; empty if there are some."""
    annotations = [entry for entry in content["annotations"] if isinstance(entry, dict)]
    if not annotations or any("bbox" in entry or "segmentation" in entry for entry in annotations):
        return ""
    for key, name in _OTHER_FORMATS.items():
        if all(key in entry for entry in annotations):
            return f"{name} (`{key}`)"
    return f"no annotation has a `bbox` or a `segmentation`, but {', '.join(sorted(map(str, annotations[0])))[:80]}"


_OTHER_FORMATS = {
    "segments_info": "COCO panoptic",
    "caption": "COCO captions",
    "keypoints": "COCO keypoints",
}
