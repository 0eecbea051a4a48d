"""Read a folder of labels in another format and put COCO content together."""

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path, PurePath
from types import ModuleType

from xray_lazy.data.check.images import is_scaled_copy, reach
from xray_lazy.data.check.masks import EDGE_TOLERANCE
from xray_lazy.data.convert import cvat, label_studio, labelme, opixray, voc, yolo
from xray_lazy.data.convert.class_file import check_rename, find_class_file, read_classes, read_keypoints
from xray_lazy.data.convert.image_index import ImageIndex, files_below, is_image_folder
from xray_lazy.data.convert.label import Instance, Label, Reading, coco_shape, scaled_instance
from xray_lazy.data.image_files.image_file import UnreadableImage, image_size
from xray_lazy.data.image_lists import read_image_table
from xray_lazy.errors import UserError
from xray_lazy.utils.atomic_file import atomic_writer
from xray_lazy.utils.wording import counted, printable

FORMATS: dict[str, ModuleType] = {
    "voc": voc,
    "yolo": yolo,
    "labelme": labelme,
    "opixray": opixray,
    "cvat": cvat,
    "label_studio": label_studio,
}
OF_SEVERAL_IMAGES = (cvat, label_studio)

# An image: its name, its (width, height), and what is in it.
_Found = tuple[str, tuple[int, int], list[Instance]]


@dataclass(frozen=True)
class Conversion:
    """A converted set.

    Attributes:
        content: the COCO content; ids count from 1, images are in the order of their names.
        image_folder: what each `file_name` is relative to.
        class_file: where the class names were read, if from a file.
        left_out: how many shapes without an area were passed over, by the kind's name for one and several.
        scaled: the labels that were scaled to the size of their image, with both sizes.
        oriented: how many oriented boxes have become masks of four corners.
        notes: what of the images was left out and why, a line each.
    """

    content: dict
    image_folder: Path
    class_file: Path | None
    left_out: Counter
    scaled: list[str]
    oriented: int = 0
    notes: Sequence[str] = ()

    def summary(self) -> str:
        """What was found, in a few lines."""
        images, annotations = self.content["images"], self.content["annotations"]
        empty = len(images) - len({annotation["image_id"] for annotation in annotations})
        counts = Counter(annotation["category_id"] for annotation in annotations)
        masks = sum(bool(annotation["segmentation"]) for annotation in annotations)
        lines = [
            f"{counted(len(images), 'image')} ({empty} without instances), "
            f"{counted(len(annotations), 'instance')} ({masks} with mask)"
        ]
        lines += [
            f"  {printable(category['name'])}: {counts[category['id']]}" for category in self.content["categories"]
        ]
        if self.class_file:
            lines.append(f"class names from {self.class_file}")
        if self.left_out:
            kinds = ", ".join(counted(count, *kind) for kind, count in sorted(self.left_out.items()))
            lines.append(f"left out, as they have no area: {kinds}")
        if self.scaled:
            what = f"{counted(len(self.scaled), 'label')} to the size of the image, where another one is stated"
            lines.append(f"scaled {what}, e.g. {self.scaled[0]}")
        if self.oriented:
            became = "a mask of its four corners, within an upright box"
            lines.append(f"{counted(self.oriented, 'oriented box', 'oriented boxes')} (YOLO OBB): each became {became}")
        return "\n".join([*lines, *self.notes])


def convert(
    source_format: str,
    source: str,
    images: str | None = None,
    classes: str | None = None,
    zero_based: bool = False,
    match_by: str | None = None,
    image_list: str | None = None,
    rename: Mapping[str, str] | None = None,
) -> Conversion:
    """Convert a folder of labels. Images without a label file are kept as empty images.

    Args:
        source_format: one of `FORMATS`.
        source: folder of the label files, searched with its subfolders; or the file of CVAT or Label Studio.
        images: folder of the images; default the folder below `source` with such a name, else `source` itself. The
            images inside labelme files are written to it where it has none.
        classes: file of class names in their order; needed for YOLO unless the set has a data.yaml or classes.txt,
            else the default is all names that occur, sorted.
        zero_based: for VOC files of tools that count pixels from 0 and exclude the far edges.
        match_by: which image is meant where a label's own name fits another one than it states inside: that of its
            "name" or the one "stated"; by default that is a fault.
        image_list: take only the images that this text file or CSV names. Of a CSV with a column for each class, those
            are left out which have a 1 where no label shows such an item.
        rename: other names for classes; two that get the same one become one class.

    Raises:
        UserError: a folder or the class names are missing, or labels are faulty: all faults at once.
    """
    folder, only = Path(source), None
    if FORMATS[source_format] in OF_SEVERAL_IMAGES and folder.is_file():
        folder, only = folder.parent, folder.name
    if not folder.is_dir():
        raise UserError(f"there is no folder {source}", "give the folder of the label files")
    class_file = _class_file(source_format, folder, classes)
    reading = Reading(read_classes(class_file) if class_file else None, zero_based, match_by)
    if source_format == "yolo":
        reading.keypoints = _keypoints(class_file, find_class_file(folder))
    index = ImageIndex(_image_folder(folder, images, source_format))
    labels = _open_labels(FORMATS[source_format], folder, only, index, reading)
    may_extract = images is not None
    if index.names or any(label.has_image for label in labels):
        label_of = _match(labels, folder, index, reading, may_extract)
    if not index.names:
        reading.raise_faults()
        raise UserError(f"there are no images in {index.folder}", "give the folder of the images with --images")
    found = []
    listed = read_image_table(Path(image_list)) if image_list else None
    names, notes = _listed(index, listed) if listed is not None else (index.names, [])
    if unlabelled := sorted(name for name in names if name in label_of and label_of[name].is_unlabelled):
        what = counted(len(unlabelled), "image")
        notes.append(f"left out, as nobody has labelled them or the task was cancelled: {what}, e.g. {unlabelled[0]}")
    for name in sorted(set(names) - set(unlabelled)):
        try:
            size = image_size(index.folder / name)
        except UnreadableImage as error:
            reading.faults.append(error.message)
            continue
        found.append((name.as_posix(), size, _instances(label_of.get(name), size, reading)))
    reading.raise_faults()
    if unlabelled and not found:
        raise UserError(f"no task is labelled, of {counted(len(unlabelled), 'image')}", "label some of them first")
    if listed:
        found = _as_told(found, dict(listed), notes)
    content = _coco(found, reading.classes, reading.declared, rename or {})
    return Conversion(content, index.folder, class_file, reading.left_out, reading.scaled, reading.oriented, notes)


def _listed(index: ImageIndex, listed: Sequence[tuple[str, Set[str]]]) -> tuple[list[Path], list[str]]:
    """The images of a list, and a line about names without one."""
    found = {name: index.named(name) for name, _ in listed}
    if not (names := [path for path in found.values() if path]):
        raise UserError(f"none of the {counted(len(found), 'listed image')} is in {index.folder}", "give their folder")
    missing = [name for name, path in found.items() if path is None]
    note = f"left out, as their images are not there: {counted(len(missing), 'listed name')}, e.g. {missing[:1]}"
    return names, [note] if missing else []


def _as_told(found: list[_Found], told: Mapping[str, Set[str]], notes: list[str]) -> list[_Found]:
    """Without images that have items of classes that no label shows; a note is added of these."""
    lacking = {
        name for name, _, items in found if told.get(PurePath(name).stem, set()) - {one.class_name for one in items}
    }
    if lacking:
        what = counted(len(lacking), "image")
        notes.append(f"left out, as the list tells of items that no label shows: {what}, e.g. {min(lacking)}")
    return [one for one in found if one[0] not in lacking]


def _class_file(source_format: str, folder: Path, given: str | None) -> Path | None:
    file = Path(given) if given else find_class_file(folder) if source_format == "yolo" else None
    if file is None and source_format == "yolo":
        raise UserError(
            f"the class names are unknown: {folder} has no data.yaml or classes.txt",
            "give a file with one name per line: --classes names.txt",
        )
    return file


def _keypoints(*class_files: Path | None) -> int | None:
    stated = (read_keypoints(file) for file in class_files if file)
    return next((numbers for numbers in stated if numbers is not None), None)


def _image_folder(source: Path, given: str | None, source_format: str) -> Path:
    if given:
        folder = Path(given)
        if not folder.is_dir() and source_format != "labelme":
            raise UserError(f"there is no image folder {folder}", "give the folder of the images with --images")
        return folder
    folders = sorted(path for path in source.iterdir() if path.is_dir() and is_image_folder(path.name))
    return folders[0] if len(folders) == 1 else source


def _open_labels(
    reader: ModuleType, folder: Path, only: str | None, images: ImageIndex, reading: Reading
) -> list[Label]:
    names = [Path(only)] if only else [name for name in files_below(folder) if name.suffix.lower() == reader.SUFFIX]
    if reader in (yolo, opixray):
        names = yolo.label_files(names, images)
    if not names:
        raise UserError(f"there are no label files *{reader.SUFFIX} in {folder}", "give the folder that they are in")
    labels = []
    for name in names:
        try:
            if reader in OF_SEVERAL_IMAGES:
                labels += reader.open_labels(folder / name, reading)
            else:
                labels.append(reader.open_label(folder / name, reading))
        except OSError as error:
            reading.fault(folder / name, f"can't be read ({error.strerror})")
    labels = [label for label in labels if label]
    if reader is yolo:
        yolo.note_pose(labels, reading)
    return labels


def _match(
    labels: list[Label], folder: Path, images: ImageIndex, reading: Reading, may_extract: bool
) -> dict[Path, Label]:
    """The label of each image that has one; faults are noted."""
    label_of: dict[Path, Label] = {}
    for label in labels:
        name = label.path.relative_to(folder)
        if label.place:
            at_place = images.named(label.place)
            found = [at_place] if at_place else []
        else:
            found = images.find(name, label.picture_name, reading.match_by)
        if not found and label.has_image and may_extract:
            try:
                found = [_extract(label, images, name)]
            except ValueError as error:
                reading.fault(label.path, str(error))
                continue
        if not found:
            inside = "; it is inside the file: with --images NEW_DIR it is written there" if label.has_image else ""
            stated = f" ({label.picture_name})" if label.picture_name else ""
            reading.fault(label.path, f"its image{stated} is not in {images.folder}{inside}")
        elif len(found) > 1:
            what = f"several images may be meant: {', '.join(map(str, found))}"
            if len({image.stem for image in found}) > 1:
                what += f"; its own name fits one, and inside it says {label.picture_name}: --match-by name or stated?"
            reading.fault(label.path, what)
        elif found[0] in label_of:
            reading.fault(label.path, f"image {found[0]} already has the label file {label_of[found[0]].path}")
        else:
            label_of[found[0]] = label
    return label_of


def _instances(label: Label | None, size: tuple[int, int], reading: Reading) -> list[Instance]:
    """What a label has in an image of this size; where it states another scale of it, scaled."""
    if label is None:
        return []
    stated = label.size or size
    instances = label.instances(stated)
    if stated == size or not instances:
        return instances
    sizes = f"{stated[0]}x{stated[1]} stated, the image has {size[0]}x{size[1]}"
    x, y = reach([{"bbox": instance.box, "segmentation": instance.mask} for instance in instances])
    if not is_scaled_copy(stated, size):
        reading.fault(label.path, f"made for another image: {sizes}, which is no scale of it")
    elif x > stated[0] + EDGE_TOLERANCE or y > stated[1] + EDGE_TOLERANCE:
        reading.fault(label.path, f"its shapes reach to x {x:g}, y {y:g}, beyond the size it states: {sizes}")
    else:
        reading.scaled.append(f"{label.path}: {sizes}")
        return [scaled_instance(instance, stated, size) for instance in instances]
    return []


def _extract(label: Label, images: ImageIndex, name: Path) -> Path:
    """Write the image inside a label file to the image folder, under the label's name."""
    data, suffix = labelme.image_inside(label.path)
    target = name.with_suffix(suffix)
    with atomic_writer(images.folder / target) as stream:
        stream.write(data)
    images.add(target)
    return target


def _coco(found: list[_Found], classes: tuple[str, ...] | None, declared: list[str], rename: Mapping[str, str]) -> dict:
    seen = {instance.class_name for _, _, instances in found for instance in instances}
    names = classes or [*declared, *sorted(seen - set(declared))]
    check_rename(rename, names)
    new_names = dict.fromkeys(rename.get(name, name) for name in names)
    id_of_class = {name: id for id, name in enumerate(new_names, start=1)}
    images, annotations = [], []
    for image_id, (name, (width, height), instances) in enumerate(found, start=1):
        images.append({"id": image_id, "file_name": name, "width": width, "height": height})
        for instance in instances:
            category_id = id_of_class[rename.get(instance.class_name, instance.class_name)]
            head = {"id": len(annotations) + 1, "image_id": image_id, "category_id": category_id}
            annotations.append({**head, **coco_shape(instance, (width, height)), "iscrowd": int(instance.is_crowd)})
    categories = [{"id": id, "name": name} for name, id in id_of_class.items()]
    return {"images": images, "annotations": annotations, "categories": categories}
