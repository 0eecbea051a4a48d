"""Write a COCO set in another format, with its images beside the labels; all of it, or nothing."""

import os
import posixpath
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from xray_lazy.data.check.checked_sets import examine
from xray_lazy.data.check.coco_set import CocoSet
from xray_lazy.data.check.kinds import ERROR, KINDS
from xray_lazy.data.check.values import class_name, is_odd_name
from xray_lazy.data.convert.label import Instance, stated_size
from xray_lazy.data.label_export.labelled_image import LabelledImage, Labels
from xray_lazy.data.label_export.writers import LABEL_WRITERS, Writer
from xray_lazy.data.split.layout import TRANSFERS
from xray_lazy.errors import UserError
from xray_lazy.utils.atomic_file import write_text
from xray_lazy.utils.results_place import (
    check_replaceable,
    check_result_folder,
    record_written,
    replace_folder,
    sole_maker,
)
from xray_lazy.utils.wording import counted, printable, tool_command

# Of a set without instances, or with classes that none of them has, labels can be written all the same.
_HARMLESS = ("no_instances", "nothing_to_train", "class_not_trained")
_FIELDS = {
    "images": {"id", "file_name", "width", "height"},
    "annotations": {"id", "image_id", "category_id", "bbox", "area", "segmentation", "iscrowd", "score"},
    "categories": {"id", "name"},
}


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        format: one of `LABEL_WRITERS`.
        folder: where.
        images, instances: how many.
        lost: what the format can't hold: how many, by what in one and in several.
        fields: those of COCO that it can't hold.
    """

    format: str
    folder: Path
    images: int
    instances: int
    lost: Counter
    fields: Sequence[str]

    def summary(self) -> str:
        """What was written and what not, in a few lines."""
        writer = LABEL_WRITERS[self.format]
        lines = [f"{counted(self.images, 'image')}, {counted(self.instances, 'instance')} for {writer.title}"]
        if self.lost:
            lost = ", ".join(counted(count, *what) for what, count in sorted(self.lost.items()))
            lines.append(f"not kept, as {writer.title} has none: {lost}")
        lines.append(f"not kept: {', '.join(map(printable, self.fields))}")
        return "\n".join(lines)


def export_labels(
    one: CocoSet,
    target: str,
    output: str | os.PathLike,
    images: str = "link",
    overwrite: bool = False,
    are_predictions: bool = False,
) -> Exported:
    """Write a set in another format.

    Args:
        one: the set; its images are in its folder.
        target: one of `LABEL_WRITERS`.
        output: the new folder.
        images: `link` or `copy` them beside the labels, or leave them where they are: `none`.
        overwrite: replace an earlier export.
        are_predictions: a model's, with a `score` each, that people are to correct.

    Raises:
        UserError: the set has faults, images are missing, names don't fit, or there is something in `output` already.
    """
    files = _image_files(one, is_needed=images != "none")
    return write_labels(one, target, output, files, images, overwrite, are_predictions)


def write_labels(
    one: CocoSet,
    target: str,
    output: str | os.PathLike,
    files: Mapping[str, Path],
    images: str = "link",
    overwrite: bool = False,
    are_predictions: bool = False,
) -> Exported:
    """As `export_labels`, of images that are anywhere: their `files` by name."""
    writer, folder = LABEL_WRITERS[target], Path(output)
    require_free(folder, writer, overwrite)
    _require_sound(one)
    found = _labelled_images(one)
    _require_names(found, writer)
    classes = _class_names(one)
    places = {image.name: _place(image, writer, files, folder, images) for image in found}
    labels = Labels(found, classes, are_predictions, places)
    with sole_maker(folder) as work:
        made = work / "export"
        made.mkdir()
        written, beside = [], []
        for name, text in writer.write(labels):
            written.append(name)
            path = made / name
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, text)
        if images != "none":
            for image in found:
                path = made / writer.image_folder / image.name
                path.parent.mkdir(parents=True, exist_ok=True)
                TRANSFERS[images](files[image.name], path)
                beside.append(path.relative_to(made).as_posix())
        record_written(made, written, beside)
        replace_folder(folder, made)
    instances = sum(len(image.instances) for image in found)
    return Exported(target, folder, len(found), instances, labels.lost, ["ids", *_other_fields(one.content)])


def require_free(folder: Path, writer: Writer, overwrite: bool) -> None:
    """See to it that nothing but an earlier export is replaced, as it was written, and that only if asked.

    Raises:
        UserError: there is something else in the folder, its labels were corrected, or it can't be written to.
    """
    check_result_folder(folder)
    if not overwrite and folder.is_dir() and any(folder.iterdir()):
        raise UserError(f"{folder} is there already", "take another --output, or --overwrite")
    check_replaceable(folder, writer.mark, f"{folder} is no earlier export for {writer.title}")


def _require_sound(one: CocoSet) -> None:
    findings = [f for f in examine(one, {}).findings if KINDS[f.kind].severity == ERROR and f.kind not in _HARMLESS]
    if findings:
        first = findings[0]
        command = tool_command("dataset", "check", one.json_file or one.name, *filter(None, [one.images_dir]))
        raise UserError(
            f"{one.name} can't be exported, it has {counted(len(findings), 'error')}: {KINDS[first.kind].title}, "
            f"{first.of} {first.id} ...",
            f"{command} tells all, and what `repair` can do",
        )


def _image_files(one: CocoSet, is_needed: bool) -> dict[str, Path]:
    if one.images_dir is None and not is_needed:
        return {}
    folder = one.images_dir or Path()
    files = {image["file_name"]: folder / image["file_name"] for image in one.content["images"] if _has_name(image)}
    missing = [name for name, path in files.items() if not path.is_file()]
    if missing and is_needed:
        raise UserError(
            f"{counted(len(missing), 'image')} of {len(files)} not in {folder}, e.g. {missing[0]}",
            "give their folder, or write the labels alone: --images none",
        )
    return files


def _has_name(image: object) -> bool:
    return isinstance(image, dict) and isinstance(image.get("file_name"), str)


def _labelled_images(one: CocoSet) -> list[LabelledImage]:
    names = {category["id"]: _clean_name(category) for category in one.content["categories"]}
    instances = defaultdict(list)
    for annotation in one.content["annotations"]:
        mask, box = annotation.get("segmentation") or None, annotation.get("bbox")
        is_crowd, score = bool(annotation.get("iscrowd")), annotation.get("score")
        name = names[annotation["category_id"]]
        instances[annotation["image_id"]].append(Instance(name, box, mask, is_crowd, score))
    found = []
    for image in one.content["images"]:
        try:
            size = stated_size(image.get("width"), image.get("height"))
        except ValueError:  # no image has it
            size = None
        if size is None:
            raise UserError(
                f"{one.name} has no size of image {image['file_name']}",
                "`tools/dataset.py repair` reads it from the file",
            )
        found.append(LabelledImage(image["file_name"], size, instances[image["id"]]))
    return found


def _clean_name(category: dict) -> str:
    return class_name(category.get("name")) or ""


def _class_names(one: CocoSet) -> list[str]:
    names = [_clean_name(category) for category in one.content["categories"]]
    require_class_names(names)
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise UserError(
            f"class name {twice[0]} is given twice, and the formats know classes by their names",
            "`tools/dataset.py repair` makes one class of them",
        )
    return names


def require_class_names(names: Iterable[str]) -> None:
    """See to it that the formats can hold these names of classes.

    Raises:
        UserError: they can't.
    """
    if odd := [name for name in names if is_odd_name(name)]:
        kind = KINDS["class_name_odd"]
        raise UserError(f"{kind.title}: {odd[0]!r}", kind.fix)


def _require_names(images: Sequence[LabelledImage], writer: Writer) -> None:
    """Names below the folder, each once, also without its suffix where labels are called so."""
    seen: dict[str, str] = {}
    for image in images:
        name = posixpath.normpath(image.name)
        if name.startswith(("/", "../")) or name in (".", "..") or "\0" in name:
            raise UserError(
                f"image {image.name!r} leads out of the image folder", "name the images from a folder that holds all"
            )
        label = posixpath.splitext(name)[0] if writer.has_file_per_image else name
        if label in seen:
            raise UserError(
                f"images {seen[label]} and {image.name} would have the same label file",
                f"{writer.title} knows them by their names: rename one",
            )
        seen[label] = image.name


def _place(image: LabelledImage, writer: Writer, files: Mapping[str, Path], folder: Path, images: str) -> str:
    """The image as seen from a label file beside which it is put; where it is not, as seen from its later place."""
    if images != "none" or image.name not in files:
        return image.path.name
    return os.path.relpath(files[image.name], (folder / image.name).parent)


def _other_fields(content: Mapping) -> list[str]:
    entries = ((known, entry) for part, known in _FIELDS.items() for entry in content[part])
    return sorted(
        {str(key) for known, entry in entries if isinstance(entry, dict) for key in entry if key not in known}
    )
