"""What tools/serve.py does: load the model, and answer until it is told to end."""

import importlib.util
import socket
import tempfile
import threading
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xray_lazy.errors import UserError
from xray_lazy.prediction.predictor import Predictor
from xray_lazy.utils.interruption import ENDING, heard
from xray_lazy.utils.results_place import held_alone

NEEDED = {"fastapi": "fastapi", "uvicorn": "uvicorn", "python_multipart": "python-multipart"}
NEEDED |= {"prometheus_client": "prometheus-client"}
LAST_SECONDS = 30  # for requests that are being answered when the server is to end
TRIED_SIZE = 64  # pixels a side of the first image, which shows whether the model works


@dataclass(frozen=True)
class ServeOptions:
    """What to serve, where, and what requests may bring.

    Attributes:
        model: output folder of a training, config file, or exported model.
        operating_point: a file with thresholds of the classes, in place of `threshold`.
        corrections: folder of the set that people's corrections make.
        port: 0 takes a free one.
        queue, max_megabytes, max_megapixels: see `xray_lazy.prediction.serving.http_routes.ServerLimits`.
    """

    model: str
    overrides: Sequence[str] = ()
    weights: str | None = None
    device: str = "auto"
    threshold: float = 0.5
    operating_point: str | None = None
    corrections: str = "output/corrections"
    host: str = "127.0.0.1"
    port: int = 8000
    batch_size: int = 8
    threads: int = 2
    queue: int = 64
    max_megabytes: float = 64
    max_megapixels: float = 50


def run_server(options: ServeOptions) -> None:
    """Serve until a signal; requests that are being answered then are answered.

    Raises:
        UserError: a package is missing, the model can't be loaded, or the port is taken.
    """
    missing = [package for module, package in NEEDED.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise UserError(f"the server needs {', '.join(missing)}", "pip install 'xray-lazy[serve]'")
    from xray_lazy.prediction.serving.correction_set import CorrectionSet
    from xray_lazy.prediction.serving.http_routes import LOOPBACK, ServerLimits, build_app

    with closing(_bound(options.host, options.port)) as listener:
        predictor = _predictor(options)
        has_masks = _has_masks(predictor)
        limits = ServerLimits(options.queue, options.max_megabytes, options.max_megapixels)
        hosts = LOOPBACK if options.host in LOOPBACK else ("*",)
        with held_alone(Path(options.corrections)), tempfile.TemporaryDirectory(prefix="xray_lazy_") as uploads:
            corrections = CorrectionSet(options.corrections, predictor.class_names, has_masks)
            app = build_app(predictor, corrections, Path(uploads), Path(options.model).name, hosts, limits)
            host, port = listener.getsockname()[:2]
            name = f"[{host}]" if ":" in host else host
            print(f"serving {options.model} at http://{name}:{port}/ (Ctrl-C ends it)", flush=True)
            _serve(app, listener)
    print("ended")


def _serve(app, listener: socket.socket) -> None:
    import uvicorn

    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=LAST_SECONDS, server_header=False)
    server = uvicorn.Server(config)
    # not in the main thread, where it would put its own handlers in place of ours and end by the signal
    thread = threading.Thread(target=server.run, args=([listener],), name="http")

    def end(number: int, frame: object) -> None:
        server.should_exit, server.force_exit = True, server.should_exit

    with heard(ENDING, end):
        thread.start()
        thread.join()


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"can't listen on port {port} of {host}: {reason}", "give another --port or --host") from None


def _predictor(options: ServeOptions) -> Predictor:
    point = None
    if options.operating_point:
        from xray_lazy.analysis.screening.operating_point import OperatingPoint

        point = OperatingPoint.read(options.operating_point)
        point.check_scores()
        if point.view_fusion is not None:
            raise UserError(
                f"{point.path} weighs the views of bags, and the server looks at single images",
                "choose an operating point without --view-fusion",
            )
    predictor = Predictor.of(
        options.model,
        options.weights,
        options.overrides,
        options.device,
        batch_size=options.batch_size,
        score_threshold=options.threshold,
        threads=options.threads,
    )
    if not predictor.class_names:
        raise UserError(f"{options.model} does not say what its classes are called", "serve a training's output folder")
    if point:
        predictor.score_threshold = point.of_classes(predictor.class_names, f"the model {options.model}")
    return predictor


def _has_masks(predictor: Predictor) -> bool:
    """Of an empty image, which also shows that the model works, before anybody waits for it."""
    empty = np.zeros((TRIED_SIZE, TRIED_SIZE, predictor.detector.reader.channels), np.uint8)
    return predictor(empty).has("pred_masks")
