"""The data of a run: sets, classes, counts, sizes of images and of items."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import median
from typing import Any

from xray_lazy.data.datasets import DetectionDataset
from xray_lazy.errors import UserError
from xray_lazy.report.blocks import Block, Cell, Chart, Charts, Heading, Note, Series, Table
from xray_lazy.report.outcome import setting
from xray_lazy.report.readable_numbers import DASH, NOTHING, TIMES, number, text, whole
from xray_lazy.report.review import load_dataset
from xray_lazy.report.run_files import RunFiles

PARTS = {"train": "training", "test": "evaluation"}
SIZE_EDGES = (0, 8, 16, 32, 48, 64, 96, 128, 192, 256, 384, 512)
MOST_ITEMS_APART = 12  # per image; more are counted together
MOST_CLASSES_IN_CHART = 40
SHORT_HASH = 12


def data_blocks(runs: Sequence[RunFiles]) -> list[Block]:
    blocks = [_compared(runs)] if len(runs) > 1 else []
    seen: list[Any] = []
    for run in runs:
        facts = _identity(run)
        if facts in seen:
            continue
        if len(runs) > 1:
            blocks.append(Heading(f"Data of {run.name}"))
        seen.append(facts)
        blocks += _of_run(run)
    return blocks


def recorded(run: RunFiles, part: str) -> Mapping[str, Any]:
    """What run.json tells of a data set: name, images, annotations, classes; empty where it tells nothing."""
    return (run.record.get("datasets") or {}).get(part) or {}


def _of_run(run: RunFiles) -> list[Block]:
    sets: dict[str, DetectionDataset] = {}
    blocks: list[Block] = []
    for part, purpose in PARTS.items():
        try:
            sets[part] = load_dataset(run, part)
        except UserError as error:
            blocks.append(Note(f"The {purpose} set is not at hand: {error.message}.", error.fix))
    rows = [_set_row(purpose, sets.get(part), recorded(run, part)) for part, purpose in PARTS.items()]
    columns = [
        "used for",
        "name",
        "images",
        "items",
        "crowds",
        "empty images",
        "items per image",
        "image size",
        "hash",
    ]
    if any(rows):
        blocks.insert(0, Table("Sets", columns, [row for row in rows if row]))
    if not sets:
        return blocks
    blocks.append(_class_table(sets))
    return [*blocks, Charts([chart for chart in _charts(sets) if chart], "What is in them")]


def _set_row(purpose: str, dataset: DetectionDataset | None, record: Mapping[str, Any]) -> list[Cell]:
    if dataset is None and not record:
        return []
    short_hash = " ".join(str(digest)[:SHORT_HASH] for digest in (record.get("files") or {}).values() if digest)
    if dataset is None:
        known = [text(str(record.get("name"))), whole(record.get("pictures")), whole(record.get("annotations"))]
        return [text(purpose), *known, *[text(NOTHING)] * 4, Cell(short_hash, code=True)]
    crowds = sum(bool(a.get("iscrowd")) for r in dataset for a in r["annotations"])
    items = sum(len(r["annotations"]) for r in dataset) - crowds
    empty = sum(not r["annotations"] for r in dataset)
    return [
        text(purpose),
        text(dataset.name),
        whole(len(dataset)),
        whole(items),
        whole(crowds),
        whole(empty),
        Cell(number(items / len(dataset)), items / len(dataset)),
        text(_image_sizes(dataset)),
        Cell(short_hash or NOTHING, code=True),
    ]


def _image_sizes(dataset: DetectionDataset) -> str:
    sizes = Counter((r["width"], r["height"]) for r in dataset)
    (width, height), _ = sizes.most_common(1)[0]
    if len(sizes) == 1:
        return f"{width}{TIMES}{height}"
    widths, heights = [w for w, _ in sizes], [h for _, h in sizes]
    ranges = [f"{min(edges)}{DASH}{max(edges)}" for edges in (widths, heights)]
    return f"{ranges[0]} {TIMES} {ranges[1]}, most {width}{TIMES}{height}"


def _class_table(sets: Mapping[str, DetectionDataset]) -> Block:
    counts = {part: _class_counts(dataset) for part, dataset in sets.items()}
    in_images = {part: Counter(n for r in d for n in _names(d, r)) for part, d in sets.items()}
    sizes = _median_sizes(next(iter(sets.values())))
    names = dict.fromkeys(name for dataset in sets.values() for name in dataset.class_names)
    most = {part: max(own.values(), default=0) for part, own in counts.items()}
    rows = []
    for name in names:
        row = [text(name)]
        for part, own in counts.items():
            items = own[name]
            row += [
                Cell(f"{items:,}", items, items / most[part] if most[part] else None),
                whole(in_images[part][name]),
            ]
        rows.append([*row, Cell(number(sizes.get(name), 0), sizes.get(name))])
    columns = ["class"]
    for part in sets:
        columns += [f"{PARTS[part]} items", "images"]
    about = "Median size is the square root of the box's area in pixels, as in the images' files."
    return Table("Classes", [*columns, "median size"], rows, about, sortable=True, filterable=len(rows) > 15)


def _names(dataset: DetectionDataset, record: Mapping) -> set[str]:
    return {dataset.class_names[a["category_id"]] for a in record["annotations"] if not a.get("iscrowd")}


def _class_counts(dataset: DetectionDataset) -> Counter:
    return Counter(
        dataset.class_names[a["category_id"]] for r in dataset for a in r["annotations"] if not a.get("iscrowd")
    )


def _median_sizes(dataset: DetectionDataset) -> dict[str, float]:
    sizes: dict[str, list[float]] = {}
    for record in dataset:
        for annotation in record["annotations"]:
            sizes.setdefault(dataset.class_names[annotation["category_id"]], []).append(_size(annotation))
    return {name: median(values) for name, values in sizes.items()}


def _size(annotation: Mapping) -> float:
    *_, width, height = annotation["bbox"]  # xywh, as load_datasets gives them
    return math.sqrt(max(0.0, width) * max(0.0, height))


def _charts(sets: Mapping[str, DetectionDataset]) -> list[Chart | None]:
    return [_class_chart(sets), _size_chart(sets), _fullness_chart(sets)]


def _class_chart(sets: Mapping[str, DetectionDataset]) -> Chart | None:
    names = list(dict.fromkeys(name for dataset in sets.values() for name in dataset.class_names))
    if len(names) > MOST_CLASSES_IN_CHART:
        return None
    series = []
    for part, dataset in sets.items():
        counts = _class_counts(dataset)
        total = sum(counts.values()) or 1
        series.append(Series(PARTS[part], range(len(names)), [100 * counts[name] / total for name in names]))
    return Chart("Share of the classes", series, "", "% of the items", bars=True, names=names)


def _size_chart(sets: Mapping[str, DetectionDataset]) -> Chart:
    """Shares, since sets differ in size."""
    names = [f"{low}{DASH}{high}" for low, high in pairwise(SIZE_EDGES)] + [f"{SIZE_EDGES[-1]}+"]
    series = []
    for part, dataset in sets.items():
        places = Counter(_bin(_size(a)) for r in dataset for a in r["annotations"])
        total = sum(places.values()) or 1
        series.append(Series(PARTS[part], range(len(names)), [100 * places[i] / total for i in range(len(names))]))
    used = [i for i in range(len(names)) if any(s.y[i] for s in series)] or [0]
    kept = range(used[0], used[-1] + 1)
    series = [Series(s.name, range(len(kept)), [s.y[i] for i in kept]) for s in series]
    return Chart(
        "Size of the items",
        series,
        "√ area of the box, pixels",
        "% of the items",
        bars=True,
        names=[names[i] for i in kept],
    )


def _bin(size: float) -> int:
    return sum(size >= edge for edge in SIZE_EDGES) - 1


def _fullness_chart(sets: Mapping[str, DetectionDataset]) -> Chart:
    fullest = max(min(MOST_ITEMS_APART, len(r["annotations"])) for d in sets.values() for r in d)
    names = [str(n) if n < MOST_ITEMS_APART else f"{n}+" for n in range(fullest + 1)]
    series = []
    for part, dataset in sets.items():
        counts = Counter(min(MOST_ITEMS_APART, len(r["annotations"])) for r in dataset)
        series.append(
            Series(PARTS[part], range(len(names)), [100 * counts[n] / len(dataset) for n in range(len(names))])
        )
    return Chart("Items per image", series, "items", "% of the images", bars=True, names=names)


def _identity(run: RunFiles) -> Any:
    """Equal for runs on the same data."""
    known = {part: dict(recorded(run, part)) for part in PARTS}
    if any(known.values()):
        return known
    return [setting(run, "dataloader", part, "dataset", "names") for part in PARTS]


def _compared(runs: Sequence[RunFiles]) -> Block:
    rows = []
    for run in runs:
        cells = [text(run.name)]
        for part in PARTS:
            facts = recorded(run, part)
            hashes = " ".join(str(digest)[:SHORT_HASH] for digest in (facts.get("files") or {}).values())
            name = facts.get("name") or (run.dataset if part == "test" else None) or NOTHING
            cells += [text(str(name)), whole(facts.get("pictures")), Cell(hashes or NOTHING, code=True)]
        rows.append(cells)
    columns = ["run", *(c for purpose in PARTS.values() for c in (purpose, "images", "hash"))]
    return Table("Data of the runs", columns, rows, "Equal hashes mean the same annotation file.")
