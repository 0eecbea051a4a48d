"""Tell from a run's record whether two runs saw the same data."""

import hashlib
from pathlib import Path
from typing import Any

from xray_lazy.data.datasets import DetectionDataset


def fingerprint(dataset: DetectionDataset) -> dict[str, Any]:
    """Name, numbers of images and annotations, class names, and the SHA-256 of each annotation file.

    The numbers are of what is used, the files whole; of images nothing is read. A list of dataset dicts that says
    less of itself has a shorter fingerprint.
    """
    return {
        "name": getattr(dataset, "name", None),
        "pictures": len(dataset),
        "annotations": sum(len(record.get("annotations", ())) for record in dataset),
        "classes": list(getattr(dataset, "class_names", ())),
        "files": {str(path): _sha256(path) for path in getattr(dataset, "json_files", ())},
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
