"""Tell from a run's record whether two runs saw the same data."""

import hashlib
from pathlib import Path
from typing import Any

from xray_lazy.data.datasets import DetectionDataset


def fingerprint(*datasets: DetectionDataset) -> dict[str, Any]:
    """Name, numbers of images and annotations, class names, and the SHA-256 of each annotation file; of several sets
    as if they were joined.

    The numbers are of what is used, the files whole; of images nothing is read. A list of dataset dicts that says
    less of itself has a shorter fingerprint.
    """
    names = [getattr(dataset, "name", None) for dataset in datasets]
    return {
        "name": "+".join(map(str, names)) if len(names) > 1 else names[0],
        "pictures": sum(map(len, datasets)),
        "annotations": sum(len(record.get("annotations", ())) for dataset in datasets for record in dataset),
        "classes": list(getattr(datasets[0], "class_names", ())),
        "files": {str(path): _sha256(path) for dataset in datasets for path in getattr(dataset, "json_files", ())},
    }


def _sha256(path: Path) -> str | None:
    """None where the file has gone since it was read."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as stream:
            while block := stream.read(2**20):
                digest.update(block)
    except OSError:
        return None
    return digest.hexdigest()
