"""A server in this process, on a port of its own."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from tests.patience import PATIENCE, wait_until
from xray_lazy.prediction.predictor import Predictor
from xray_lazy.prediction.serving.correction_set import CorrectionSet
from xray_lazy.prediction.serving.http_routes import LOOPBACK, ServerLimits, build_app

THRESHOLD = 0.1


@contextmanager
def serving(run_folder: Path, folder: Path, **limits) -> Iterator[str]:
    """The address of a server of the tiny model; corrections go to `folder/corrections`."""
    predictor = Predictor.of(run_folder, device="cpu", batch_size=4, score_threshold=THRESHOLD)
    uploads = folder / "uploads"
    uploads.mkdir(parents=True)
    corrections = CorrectionSet(folder / "corrections", predictor.class_names, with_masks=True)
    app = build_app(predictor, corrections, uploads, "tiny", LOOPBACK, ServerLimits(**limits))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        wait_until(lambda: server.started or not thread.is_alive())
        try:
            yield "http://127.0.0.1:{1}".format(*listener.getsockname())
        finally:
            server.should_exit = True
            thread.join(PATIENCE)
    assert not thread.is_alive()
    assert not list(uploads.iterdir())
