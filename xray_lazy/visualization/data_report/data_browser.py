"""hotcoco's data set browser on the chosen images: a page on this machine with filters, zoom and details."""

import contextlib
import importlib.util
import os
import socket
from collections.abc import Sequence
from pathlib import Path

from xray_lazy.data.datasets import DetectionDataset
from xray_lazy.errors import UserError

NEEDED = ("fastapi", "uvicorn", "jinja2")
DEFAULT_PORT, PORTS_TRIED = 7860, 11


def browse(datasets: Sequence[DetectionDataset], port: int = DEFAULT_PORT) -> None:
    """Serve the page on 127.0.0.1 and open it in a browser, until Ctrl-C.

    Args:
        datasets: of one list of classes.
        port: the next free one of eleven from here on.

    Raises:
        UserError: a package is missing, or there is no free port.
    """
    check_browser()
    from hotcoco.server import run_server

    page, port = browser_page(datasets), _free_port(port)
    ways = f"Ctrl-C ends it; from another machine: ssh -L {port}:127.0.0.1:{port} THIS_HOST"
    print(f"http://127.0.0.1:{port}  ({ways})", flush=True)
    with contextlib.suppress(KeyboardInterrupt):  # how the user ends it
        run_server(page, port)


def check_browser() -> None:
    """Raises: UserError: a package that the browser needs is missing."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"the browser needs {', '.join(missing)}", "pip install 'hotcoco[browse]'")


def browser_page(datasets: Sequence[DetectionDataset]):
    """The page's application (ASGI)."""
    from hotcoco import COCO
    from hotcoco.server import create_app

    content, folder = browsable_content(datasets)
    return create_app(COCO(content), image_dir=str(folder))


def browsable_content(datasets: Sequence[DetectionDataset]) -> tuple[dict, Path]:
    """The sets as one COCO object with running ids, and the folder that all its file names start from.

    Sizes are the files' own, so that a scanner's export without sizes can be browsed, too.
    """
    records = [record for dataset in datasets for record in dataset]
    files = [os.path.abspath(record["file_name"]) for record in records]
    folder = Path(os.path.commonpath([os.path.dirname(file) for file in files]))
    images, annotations = [], []
    for image_id, (record, file) in enumerate(zip(records, files, strict=True), start=1):
        size = {"width": record["width"], "height": record["height"]}
        images.append({"id": image_id, "file_name": os.path.relpath(file, folder), **size})
        for instance in record["annotations"]:
            kept = {key: instance[key] for key in ("bbox", "area", "iscrowd", "segmentation") if key in instance}
            own = {"id": len(annotations) + 1, "image_id": image_id, "category_id": instance["category_id"] + 1}
            annotations.append(kept | own)
    categories = [{"id": index, "name": name} for index, name in enumerate(datasets[0].class_names, start=1)]
    return {"images": images, "annotations": annotations, "categories": categories}, folder


def _free_port(first: int) -> int:
    for port in range(first, first + PORTS_TRIED):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise UserError(f"no port from {first} to {first + PORTS_TRIED - 1} is free", "choose another with --port")
