"""What the user names as input, as images and videos: files, folders, patterns, COCO files, data sets."""

import glob
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from xray_lazy.data.bag_names import BAG, bag_fields
from xray_lazy.data.coco_file import read_coco
from xray_lazy.data.dataset_places import DatasetSource, find_source, refuse_pipe, set_name
from xray_lazy.data.image_files.image_file import IMAGE_SUFFIXES
from xray_lazy.data.image_reader import Reader
from xray_lazy.errors import UserError
from xray_lazy.utils.wording import tool_command

VIDEO_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv"})


@dataclass(frozen=True)
class InputFile:
    """An image's or video's file.

    Attributes:
        name: the file's below what was given; its whole path where another file has that name below something else.
        image_id: that of the COCO file that named it; None for others.
        result: the name of its results below a folder of them, whose suffix does not count.
        bag: that of the COCO file.
    """

    path: Path
    name: PurePosixPath
    image_id: int | str | None = None
    result: PurePosixPath | None = None
    bag: str | None = None


@dataclass(frozen=True)
class Inputs:
    """Images and videos in the order in which they were given, folders sorted; names and those of results differ.

    `coco_files` are those that named images, `unreadable` what can't be looked into.
    """

    images: list[InputFile] = field(default_factory=list)
    videos: list[InputFile] = field(default_factory=list)
    coco_files: list[Path] = field(default_factory=list)
    unreadable: list[UserError] = field(default_factory=list)


def find_inputs(words: Sequence[str], image_root: str | Path | None = None, output: str | Path | None = None) -> Inputs:
    """Find all images and videos that `words` name.

    Args:
        words: images, videos, folders (with those below them), patterns such as `scans/**/*.jpg`, COCO files, and
            names of data sets such as `xray_smith_val`. A file that two of them name comes once.
        image_root: the folder of a COCO file's images; by default `images` beside it, else its own folder.
        output: a folder of results, which are no inputs.

    Raises:
        UserError: a word names nothing.
    """
    if not words:
        raise UserError("no input is given", "name images, folders, patterns, videos or a COCO file")
    inputs, seen, names, results = Inputs(), set(), set(), set()
    excluded = _real(output) if output else None
    for word in words:
        for entry in _find(word, image_root, inputs):
            place = _real(entry.path)
            if place in seen or (excluded and place.is_relative_to(excluded) and place != _real(word)):
                continue
            seen.add(place)
            kind = inputs.videos if entry.path.suffix.lower() in VIDEO_SUFFIXES else inputs.images
            name = PurePosixPath(place.as_posix()) if entry.name in names else entry.name
            names.add(name)
            kind.append(replace(entry, name=name, result=_free_result(entry.name, results)))
    if not inputs.images and not inputs.videos:
        where = f" outside of {output}, where the results go" if excluded else ""
        fix = "results of an earlier call don't count: name another folder for new ones"
        raise UserError(f"{' '.join(words)} has no images{where}", fix)
    return inputs


def _real(path: str | Path) -> Path:
    """Without links. A link to itself stays, to be skipped as what can't be read; `Path.resolve` would raise."""
    return Path(os.path.realpath(path))


def default_image_root(json_file: Path) -> Path:
    """Where the images of a COCO file are likely to be."""
    beside = json_file.parent / "images"
    return beside if beside.is_dir() else json_file.parent


def _find(word: str, image_root: str | Path | None, inputs: Inputs) -> list[InputFile]:
    path = Path(word)
    if path.is_dir():
        below = _below(path, unreadable := [])
        inputs.unreadable.extend(unreadable)
        if not below and unreadable:
            raise unreadable[0]
        if not below:
            raise UserError(f"the folder {path} has no images and no videos", f"known are {_known_suffixes()}")
        return [InputFile(entry, PurePosixPath(entry.relative_to(path).as_posix())) for entry in below]
    if path.suffix.lower() == ".json":
        return _of_coco(path, Path(image_root) if image_root else default_image_root(path), inputs.coco_files)
    if os.path.lexists(path):
        if not _is_medium(path):
            raise UserError(f"{path} is neither an image nor a video", f"known are {_known_suffixes()}, and .json")
        return [InputFile(path, PurePosixPath(path.name))]
    if glob.has_magic(word):
        matches = sorted(Path(match) for match in glob.glob(word, recursive=True) if _is_medium(Path(match)))
        folders = glob.glob(os.path.join(word if word.endswith("**") else os.path.dirname(word), ""), recursive=True)
        unreadable = []
        for folder in folders:  # glob itself passes over those that can't be read
            next(os.walk(folder, onerror=lambda error: unreadable.append(_refused(error))), None)
        inputs.unreadable.extend(unreadable)
        if not matches and unreadable:
            raise unreadable[0]
        if not matches:
            raise UserError(f"no image and no video is named like {word!r}", "quote patterns; ** goes into folders")
        start = Path(*_until_magic(path.parts[:-1]))
        return [InputFile(match, PurePosixPath(match.relative_to(start).as_posix())) for match in matches]
    if set_name(word):
        source = find_source(word)
        return _of_coco(source.json_file, source.image_root, inputs.coco_files)
    raise UserError(f"there is no {word}", "name images, folders, patterns, videos or a COCO file")


def _below(folder: Path, unreadable: list[UserError]) -> list[Path]:
    """Images and videos in a folder and those below it, sorted; adds folders that can't be read to `unreadable`."""
    looked_into = os.walk(folder, onerror=lambda error: unreadable.append(_refused(error)))
    entries = (Path(place) / name for place, _, names in looked_into for name in names)
    return sorted(entry for entry in entries if _is_medium(entry))


def _refused(error: OSError) -> UserError:
    return UserError(f"the folder {error.filename} can't be read: {error.strerror}", "mend its rights")


def _of_coco(json_file: Path, image_root: Path, coco_files: list[Path]) -> list[InputFile]:
    refuse_pipe(DatasetSource(json_file.stem, json_file, image_root))
    content = read_coco(json_file, needed=("images",))
    if not image_root.is_dir():
        raise UserError(f"there is no folder {image_root} for the images of {json_file}", "name it with --image-root")
    images = []
    for image in content["images"]:
        try:
            name = image["file_name"]
            bag = bag_fields(image).get(BAG)
            images.append(InputFile(image_root / name, PurePosixPath(name), image["id"], bag=bag))
        except (KeyError, TypeError, AttributeError):
            raise UserError(
                f"{json_file} has an image without file_name or id: {image}",
                tool_command("dataset", "check", json_file, image_root),
            ) from None
    coco_files.append(json_file)
    return images


def _is_medium(path: Path) -> bool:
    """By its name: a link that leads nowhere is one that can't be read, and is told."""
    return path.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES and not path.is_dir()


def _until_magic(parts: Sequence[str]) -> list[str]:
    first = next((place for place, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    return list(parts[:first])


def _free_result(name: PurePosixPath, taken: set[PurePosixPath]) -> PurePosixPath:
    """The name, without steps out of the output folder, numbered where another one has it; suffixes don't count."""
    inner = PurePosixPath(*(part for part in name.parts if part not in ("..", name.anchor))) or name
    free, number = inner, 2
    while free.with_suffix("") in taken:
        free, number = inner.with_stem(f"{inner.stem}_{number}"), number + 1
    taken.add(free.with_suffix(""))
    return free


def _known_suffixes() -> str:
    return " ".join(sorted(IMAGE_SUFFIXES | VIDEO_SUFFIXES))


def without_further_files(images: Sequence[InputFile], reader: Reader) -> list[InputFile]:
    """Without those that are read together with another one, such as its high energy."""
    further = set()
    for image in images:
        with suppress(UserError):  # of what is a further file itself
            further |= set(reader.files(image.path)[1:])
    return [image for image in images if image.path not in further]
