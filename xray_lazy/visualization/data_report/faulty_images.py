"""Images whose entries have faults, with the faulty annotations drawn as far as they can be."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

from xray_lazy.data.check import CocoSet, Finding, check_sets
from xray_lazy.data.check.images import image_path
from xray_lazy.data.check.kinds import KINDS, NOTE
from xray_lazy.data.check.masks import rle_fault
from xray_lazy.data.check.values import are_coordinates
from xray_lazy.data.image_detections import Drawn
from xray_lazy.data.wanted_sets import short_name
from xray_lazy.errors import UserError
from xray_lazy.visualization.data_report.shown_image import ShownImage
from xray_lazy.visualization.image_choice import Choice

# Nothing can be seen of it, and exports of some scanners have it in every image.
UNSEEN = "size_missing"


def find_faulty_images(
    sets: Sequence[CocoSet], class_names: Sequence[str], kinds: Collection[str] = (), show_progress: bool = False
) -> list[ShownImage]:
    """The images with a fault of their own or of an annotation, as `tools/dataset.py check` finds them.

    Args:
        class_names: of all sets; an annotation's colour is that of its place here.
        kinds: keys of `KINDS`; none means errors and warnings, except missing sizes.

    Raises:
        UserError: there is no such kind of fault.
    """
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise UserError(f"there is no kind of fault {', '.join(unknown)}", f"kinds are {', '.join(KINDS)}")
    wanted = set(kinds) or {kind for kind, about in KINDS.items() if about.severity != NOTE and kind != UNSEEN}
    reports = check_sets(sets, show_progress=show_progress).sets
    return [
        image
        for one, report in zip(sets, reports, strict=True)
        for image in _of_set(one, [f for f in report.findings if f.kind in wanted], class_names)
    ]


def choose_faulty(images: Sequence[ShownImage], class_names: Sequence[str], choice: Choice) -> list[ShownImage]:
    """The images that are wanted; where items are asked for, those with a faulty one such, by the area of its box."""

    def is_wanted(item: Drawn) -> bool:
        x0, y0, x1, y1 = item.box
        name = class_names[item.class_id] if item.class_id < len(class_names) else ""
        return not item.is_quiet and choice.takes_item(name, max(0, x1 - x0) * max(0, y1 - y0))

    return [
        shown
        for shown in images
        if choice.takes_image(shown.image_id, shown.path.name)
        and (not choice.asks_for_items or any(map(is_wanted, shown.drawn)))
    ]


def declared_classes(sets: Sequence[CocoSet]) -> list[str]:
    """The names of the classes that the sets declare, each once, as far as they are entries at all."""
    entries = (entry for one in sets for entry in filter(_is_entry, one.content["categories"]))
    return list(dict.fromkeys(str(entry.get("name")) for entry in entries))


def _of_set(one: CocoSet, findings: Sequence[Finding], class_names: Sequence[str]) -> list[ShownImage]:
    of_image, of_instance = _titles(findings, "image"), _titles(findings, "instance")
    annotations = defaultdict(list)
    for annotation in filter(_is_entry, one.content["annotations"]):
        annotations[str(annotation.get("image_id"))].append(annotation)
    names = {str(entry.get("id")): str(entry.get("name")) for entry in filter(_is_entry, one.content["categories"])}
    shown = []
    for image in filter(_is_entry, one.content["images"]):
        key, path = str(image.get("id")), image_path(one.images_dir, image)
        own = annotations[key]
        if path is None or not (of_image[key] or any(of_instance[str(a.get("id"))] for a in own)):
            continue
        drawn = [_drawn(a, names, class_names, of_instance[str(a.get("id"))]) for a in own]
        faults = of_image[key] + [fault for a in own for fault in of_instance[str(a.get("id"))]]
        caption = f"{path.name}  {short_name(one)}  id {key}: {', '.join(dict.fromkeys(faults))}"
        shown.append(ShownImage(path, tuple(item for item in drawn if item), caption, key))
    return shown


def _titles(findings: Sequence[Finding], of: str) -> Mapping[str, list[str]]:
    """Faults by the id of their entry, in the short words of their kind."""
    titles = defaultdict(list)
    for finding in findings:
        if finding.of == of:
            titles[str(finding.id)].append(finding.kind.replace("_", " "))
    return titles


def _drawn(annotation: dict, names: Mapping, class_names: Sequence[str], faults: Sequence[str]) -> Drawn | None:
    """An annotation with its faults for a label; without any it is quiet. None where nothing of it can be drawn."""
    box, mask = _box(annotation.get("bbox")), _mask(annotation.get("segmentation"))
    if box is None and not isinstance(mask, list):
        return None
    if box is None:
        xs, ys = [x for part in mask for x in part[::2]], [y for part in mask for y in part[1::2]]
        box = min(xs), min(ys), max(xs), max(ys)
    name = names.get(str(annotation.get("category_id")), f"class {annotation.get('category_id')}")
    class_id = class_names.index(name) if name in class_names else len(class_names)
    return Drawn(class_id, box, mask=mask, label=f"{name}: {', '.join(faults)}", is_quiet=not faults)


def _box(values: object) -> tuple[float, float, float, float] | None:
    if not isinstance(values, list) or len(values) != 4 or not are_coordinates(values):
        return None
    x, y, width, height = values
    return x, y, x + width, y + height


def _mask(segmentation: object) -> list | dict | None:
    """Polygons as far as they are lists of coordinates; an RLE only where it can be decoded."""
    if isinstance(segmentation, list):
        parts = [part for part in segmentation if isinstance(part, list) and len(part) >= 2 and are_coordinates(part)]
        return parts or None
    # pycocotools ends the process at some of what can't be decoded
    can_be_drawn = isinstance(segmentation, dict) and rle_fault(segmentation, None) is None
    return segmentation if can_be_drawn else None


def _is_entry(entry: object) -> bool:
    return isinstance(entry, dict)
