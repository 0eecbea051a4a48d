"""COCO files as detectron2 dataset dicts, by name (`xray_<scanner>_<split>`) or by JSON file and folder."""

import functools
import gc
import logging
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from xray_lazy.data.bag_names import BAG, bag_fields
from xray_lazy.data.coco_file import REQUIRED_LISTS, Repeated, read_coco, repeated_keys
from xray_lazy.data.coco_instance import drop_empty_masks, fill_areas, read_instance, refuse_other_sizes
from xray_lazy.data.dataset_places import DatasetSource, find_source
from xray_lazy.data.memory.packed_records import PackedRecords
from xray_lazy.data.memory.shared_object import shared_object
from xray_lazy.errors import UserError
from xray_lazy.utils.wording import counted, printable, tool_command

WEIGHT = "weight"  # of an image in a COCO file and in its record, see `balance.ImageWeights`
LEFT_OUT = "left_out"  # in a record: how many of its annotations can't be used, where there are some

logger = logging.getLogger(__name__)


class DetectionDataset(PackedRecords):
    """detectron2's dataset dicts of one or more COCO files, and what is known of them as a whole.

    It can be indexed and iterated over like a list; each time a record is asked for it is unpacked anew.

    Attributes:
        name: e.g. `xray_smith_val`; several names are joined by `+`.
        class_names: by contiguous class index, as `category_id` of the annotations counts.
        category_ids: the JSON file's own category ids by the same index.
        has_masks: whether any instance has a mask.
        json_files: that it was read from.
        trained_boxes: by class, the instances that are no crowd regions; of the whole, also where this is a part.
        trained_masks: those of them that have a mask.
    """

    def __init__(
        self,
        records: Iterable[dict],
        name: str,
        class_names: Sequence[str],
        category_ids: Sequence[int],
        json_files: Sequence[Path] = (),
        whole: "DetectionDataset | None" = None,
    ):
        records = list(records)
        super().__init__(records)
        self.name = name
        self.class_names = tuple(class_names)
        self.category_ids = tuple(category_ids)
        self.has_masks = any("segmentation" in a for record in records for a in record["annotations"])
        self.json_files = tuple(json_files)
        if whole is None:
            instances = [a for record in records for a in record["annotations"] if not a["iscrowd"]]
            boxes = Counter(a["category_id"] for a in instances)
            masks = Counter(a["category_id"] for a in instances if "segmentation" in a)
        else:
            boxes, masks = whole.trained_boxes, whole.trained_masks
        self.trained_boxes = tuple(boxes[index] for index in range(len(self.class_names)))
        self.trained_masks = tuple(masks[index] for index in range(len(self.class_names)))

    def part(self, records: Iterable[dict], name: str) -> "DetectionDataset":
        """Some of its records as a data set."""
        return DetectionDataset(records, name, self.class_names, self.category_ids, self.json_files, whole=self)


def load_datasets(
    names: str | Mapping | Sequence[str | Mapping],
    root: str | None = None,
    filter_empty: bool = False,
    fraction: float = 1.0,
    max_pictures: int | None = None,
    seed: int | None = None,
) -> DetectionDataset:
    """Load one or several COCO sets as one.

    Args:
        names: one or more references as `find_source` takes them.
        root: as `find_source`.
        filter_empty: leave out images without an instance that can be trained on.
        fraction: of what is left, at least one image; all views of a bag or none.
        max_pictures: the most images; None sets no limit. A bag's views are there even where they are more.
        seed: of a part that is drawn at random, in which a smaller one of the same seed is contained; None spreads the
            part evenly over the set.

    Category ids become contiguous from 0 in the order of the JSON's ids. Width and height that are 0 are read from the
    image. Sets that are loaded together must declare the same classes; their images get new, running ids.

    Raises:
        UserError: a set is missing, unreadable or empty, or the classes differ.
    """
    is_one = isinstance(names, str | Mapping) or not isinstance(names, Iterable)
    references: list[Any] = [names] if is_one and names else list(names or ())
    if not references:
        raise UserError("no data set is named", "set `names` to one or more data sets")
    sources = tuple(find_source(reference, root) for reference in references)
    part = {"filter_empty": filter_empty, "fraction": fraction, "max_pictures": max_pictures, "seed": seed}
    return _load(sources, tuple(map(_stamp, sources)), **part)


# the loader, the evaluator and the check before the run ask for the same sets, and so do all processes of a run
@functools.lru_cache(maxsize=16)
def _load(sources: tuple[DatasetSource, ...], stamps: tuple, **part) -> DetectionDataset:
    code = (__file__, Path(__file__).stat().st_mtime_ns)
    dataset, warnings = shared_object(repr((code, sources, stamps, part)), lambda: _read(sources, **part))
    for warning in warnings:  # in the log of each process, also of those that did not read the files
        logger.warning(warning)
    return dataset


def _stamp(source: DatasetSource) -> tuple[int, ...]:
    """Changes with the annotations, and with images, of which sizes may be read, that are put in or taken out."""
    file = source.json_file.stat()
    return file.st_ino, file.st_mtime_ns, file.st_ctime_ns, file.st_size, source.image_root.stat().st_mtime_ns


def _read(
    sources: Sequence[DatasetSource],
    filter_empty: bool,
    fraction: float,
    max_pictures: int | None,
    seed: int | None,
) -> tuple[DetectionDataset, list[str]]:
    """The data set, and notes on it for the user."""
    warnings: list[str] = []
    gc_was_on = gc.isenabled()
    gc.disable()  # looking for garbage again and again while millions of objects are made takes half of the time
    try:
        parts = [_parse(source, warnings) for source in sources]
    finally:
        if gc_was_on:
            gc.enable()
    dataset = parts[0] if len(parts) == 1 else join_datasets(parts)
    if filter_empty:
        kept = [r for r in dataset if any(not a["iscrowd"] for a in r["annotations"])]
        if dataset and not kept:
            raise UserError(
                f"data set {dataset.name} has no instance to train on", "look at it with `tools/dataset.py check`"
            )
        dataset = dataset.part(kept, dataset.name)
    if not dataset:
        raise UserError(f"data set {dataset.name} has 0 images", "look at it with `tools/dataset.py check`")
    return _part(dataset, fraction, max_pictures, seed), warnings


def _part(dataset: DetectionDataset, fraction: float, max_pictures: int | None, seed: int | None) -> DetectionDataset:
    if not 0 < fraction <= 1:
        raise UserError(f"there is no fraction {fraction} of data set {dataset.name}", "give one in (0, 1]")
    if max_pictures is not None and max_pictures < 1:
        raise UserError(f"max_pictures={max_pictures} leaves nothing of data set {dataset.name}", "give 1 or more")
    import numpy as np  # the environment's check lists data sets in a Python without packages

    if fraction == 1 and max_pictures is None:
        return dataset
    bags: dict[Any, list[int]] = {}  # an image that names no bag is one by itself
    for place, record in enumerate(dataset):
        bags.setdefault(record.get(BAG, place), []).append(place)
    most = max_pictures // max(map(len, bags.values())) if max_pictures else len(bags)
    count = max(1, min(round(fraction * len(bags)), most))
    if count == len(bags):
        return dataset
    if seed is None:
        chosen = np.linspace(0, len(bags) - 1, count).round().astype(int)
    else:
        chosen = np.random.default_rng(seed).permutation(len(bags))[:count]
    images = list(bags.values())
    places = sorted(place for one in chosen.tolist() for place in images[one])
    # the name is that of results, too: those of a part must not pass for those of the whole
    name = f"{dataset.name}_{len(places)}of{len(dataset)}"
    return dataset.part(dataset.in_order(places), name)


def _parse(source: DatasetSource, warnings: list[str]) -> DetectionDataset:
    repeated: Repeated = {}
    content = read_coco(source.json_file, repeated=repeated)
    try:
        return _build(source, content, repeated, warnings)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise UserError(
            f"data set {source.name}: {source.json_file} has an entry that COCO does not allow "
            f"({type(error).__name__}: {error})",
            tool_command("dataset", "check", source.json_file, source.image_root),
        ) from error


def _build(source: DatasetSource, content: dict, repeated: Repeated, warnings: list[str]) -> DetectionDataset:
    from xray_lazy.data.check.values import as_whole, class_name, is_id

    categories = _sorted_classes(content)
    index_of_category = {category["id"]: index for index, category in enumerate(categories)}
    records = {}
    for image in content["images"]:
        if not is_id(image["id"]) or not isinstance(image["file_name"], str):
            raise ValueError(f"an image has the id {image['id']!r} and the file_name {image['file_name']!r}")
        records[image["id"]] = {
            "file_name": str(source.image_root / image["file_name"]),
            # what is no size is read from the file, as repair does
            "height": max(as_whole(image.get("height")) or 0, 0),
            "width": max(as_whole(image.get("width")) or 0, 0),
            "image_id": image["id"],
            "dataset_name": source.name,
            "annotations": [],
            **bag_fields(image),
            **({WEIGHT: float(image[WEIGHT])} if isinstance(image.get(WEIGHT), int | float) else {}),
        }
    if len(records) < len(content["images"]):
        raise ValueError("two images have the same id")
    left_out = 0
    of_no_image: list[Any] = []
    of_no_class: list[Any] = []
    no_outlines: list[int | str] = []
    empty: list[int | str] = []
    for annotation in content["annotations"]:
        record, index = records.get(annotation["image_id"]), index_of_category.get(annotation["category_id"])
        if record is None:
            of_no_image.append(annotation["image_id"])
            continue
        if index is None:
            of_no_class.append(annotation["category_id"])
        instance, is_whole = (None, False) if index is None else read_instance(annotation, index)
        if instance is None:
            record[LEFT_OUT] = record.get(LEFT_OUT, 0) + 1
            left_out += 1
            continue
        record["annotations"].append(instance)
        if not is_whole:
            no_outlines.append(instance["id"])
    _refuse_other_forms("image", of_no_image, records.keys())
    _refuse_other_forms("category", of_no_class, index_of_category.keys())
    if of_no_image and len(of_no_image) == len(content["annotations"]):
        raise ValueError(f"no annotation is of an image that is there, e.g. image_id {of_no_image[0]!r}")
    _fill_sizes(records.values(), source)
    for record in records.values():
        refuse_other_sizes(record)
        empty += drop_empty_masks(record)
        fill_areas(record)
    names = [printable(class_name(category["name"]) or "") for category in categories]
    dataset = DetectionDataset(records.values(), source.name, names, list(index_of_category), [source.json_file])
    ambiguous = [one for name in REQUIRED_LISTS for one in content[name] if repeated and repeated_keys(one, repeated)]
    if ambiguous:
        example = f"{', '.join(repeated_keys(ambiguous[0], repeated))} of id {ambiguous[0].get('id')}"
        entries = counted(len(ambiguous), "entry", "entries")
        warnings.append(f"{source.name}: took the last of several values of a key in {entries}, e.g. {example}")
    losses = _losses(dataset, left_out + len(of_no_image), no_outlines, empty)
    warnings += [f"{source.name}: {text}: see `tools/dataset.py check`" for text in losses]
    return dataset


def _refuse_other_forms(kind: str, unknown: Sequence[Any], ids: Collection[Any]) -> None:
    """Images or classes may have been taken out of a file; but "3" or null for 3 makes clean bags of its threats."""
    from xray_lazy.data.check.values import as_whole, is_id

    spelled = {as_whole(id) for id in ids} - {None} if unknown else set()
    if other := [id for id in unknown if as_whole(id) in spelled]:
        raise ValueError(f"the {kind}_id {other[0]!r} of an annotation is the id of one in another form")
    if senseless := [id for id in unknown if not is_id(id)]:
        raise ValueError(f"the {kind}_id {senseless[0]!r} of an annotation is no id")


def _sorted_classes(content: dict) -> list[dict]:
    """The classes by their ids, which are those that the annotations mean."""
    from xray_lazy.data.check.classes import class_shift
    from xray_lazy.data.check.values import as_whole, class_name, is_whole

    categories = content["categories"]
    if not categories:
        raise ValueError("no classes are declared in `categories`")
    ids = [category["id"] for category in categories]
    if wrong := [id for id in ids if isinstance(id, str) or as_whole(id) is None or id < 0]:
        raise ValueError(f"the id {wrong[0]!r} of a class is no whole number from 0 on")
    if len(set(ids)) < len(ids):
        raise ValueError("two classes have the same id")
    if nameless := [category["id"] for category in categories if class_name(category["name"]) is None]:
        raise ValueError(f"class {nameless[0]} has no name")
    used = {annotation["category_id"] for annotation in content["annotations"]}
    used = {id for id in used if is_whole(id)}
    if class_shift(ids, used):
        declared = f"`categories` declares {min(ids)} to {max(ids)}"
        raise ValueError(f"annotations use the class ids {min(used)} to {max(used)}, {declared}: they are shifted")
    return sorted(categories, key=lambda category: category["id"])


def _losses(
    dataset: DetectionDataset, left_out: int, no_outlines: Sequence[int | str], empty: Sequence[int | str]
) -> Iterator[str]:
    """What training does not get of a file."""
    if left_out:
        yield f"left out {counted(left_out, 'annotation')} without an image, a declared class or a usable box"
    if no_outlines:
        of = f"{counted(len(no_outlines), 'annotation')}, e.g. {no_outlines[0]}"
        yield f"left out polygons of {of}: not an even number of 6 or more coordinates in a list of polygons"
    if empty:
        of = f"{counted(len(empty), 'annotation')}, e.g. {empty[0]}"
        yield f"left out the masks of {of}: they have no pixel in the image"
    bare = [a["id"] for r in dataset for a in r["annotations"] if "segmentation" not in a]
    if bare and dataset.has_masks:
        yield f"{counted(len(bare), 'annotation')} without a mask, e.g. {bare[0]}: training of masks leaves them out"


def _fill_sizes(records: Iterable[dict], source: DatasetSource) -> None:
    """Put the images' own sizes where the JSON has none."""
    from xray_lazy.data.image_files.image_file import UnreadableImage, image_sizes

    unsized = [record for record in records if not (record["width"] and record["height"])]
    if not unsized:
        return

    sizes = list(image_sizes(record["file_name"] for record in unsized))
    unreadable = [size for size in sizes if isinstance(size, UnreadableImage)]
    known = [size for size in sizes if not isinstance(size, UnreadableImage)]
    if unreadable:
        raise UserError(
            f"data set {source.name}: {counted(len(unreadable), 'image')} without a size in {source.json_file} "
            f"can't be read, e.g. {unreadable[0].path} {unreadable[0].why}",
            tool_command("dataset", "check", source.json_file, source.image_root),
        )
    for record, size in zip(unsized, known, strict=True):
        record["width"], record["height"] = size
    logger.info("%s: read the sizes of %s from the files", source.name, counted(len(unsized), "image"))


def join_datasets(parts: Sequence[DetectionDataset]) -> DetectionDataset:
    """Several sets as one, whose images and annotations count from 1.

    Raises:
        UserError: they do not have the same classes.
    """
    first = parts[0]
    for part in parts[1:]:
        if set(part.class_names) != set(first.class_names):
            only_one = sorted(set(part.class_names) ^ set(first.class_names))
            raise UserError(
                f"data sets {first.name} and {part.name} do not declare the same classes: "
                f"only one of them has {', '.join(only_one)}",
                "make the lists `categories` of their JSON files equal",
            )
    joined = []
    for part in parts:
        index = [first.class_names.index(name) for name in part.class_names]
        for record in part:
            annotations = [{**a, "category_id": index[a["category_id"]]} for a in record["annotations"]]
            own_bag = {BAG: f"{part.name}/{record[BAG]}"} if BAG in record else {}
            joined.append(record | own_bag | {"annotations": annotations})
    next_instance = 1
    for image_id, record in enumerate(joined, start=1):
        record["image_id"] = image_id
        for annotation in record["annotations"]:
            annotation["id"], next_instance = next_instance, next_instance + 1
    name = "+".join(part.name for part in parts)
    json_files = [file for part in parts for file in part.json_files]
    return DetectionDataset(joined, name, first.class_names, first.category_ids, json_files)
