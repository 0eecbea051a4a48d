"""The HTTP API: what is found in scans, corrections of it, the page, health and metrics."""

import base64
import logging
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
from fastapi import FastAPI, Form, HTTPException, Request, UploadFile
from fastapi.exception_handlers import http_exception_handler
from fastapi.responses import FileResponse, JSONResponse, Response
from starlette.exceptions import HTTPException as AnyHTTPException  # of which FastAPI's is one

from xray_lazy.data.image_files.image_bytes import TooManyPixels
from xray_lazy.errors import RunFailure, UserError
from xray_lazy.prediction.detection_files import Categories, Found
from xray_lazy.prediction.predictor import Prediction, Predictor
from xray_lazy.prediction.serving.correction_set import CorrectionSet, read_items
from xray_lazy.prediction.serving.detection_queue import DetectionQueue
from xray_lazy.prediction.serving.received_scans import ReceivedScan, received
from xray_lazy.prediction.serving.request_gate import RequestGate
from xray_lazy.prediction.serving.request_metrics import MeasuredRequests, ServerMetrics

PAGE = Path(__file__).with_name("page.html")
LOOPBACK = ("127.0.0.1", "localhost", "::1")
MOST_FILES = 64  # of a request
MOST_TEXT = 2**24  # bytes of the annotations of a request
JPEG_QUALITY = 95
# the page is one file, and nothing that it shows may fetch anything
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data: blob:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServerLimits:
    """What a request may bring.

    Attributes:
        queue: requests at once that send something; more are answered 503.
        megabytes: of a request.
        megapixels: of an image, times channels.
    """

    queue: int = 64
    megabytes: float = 64
    megapixels: float = 50


def build_app(
    predictor: Predictor,
    corrections: CorrectionSet,
    uploads: Path,
    model_name: str,
    hosts: Sequence[str] = ("*",),
    limits: ServerLimits | None = None,
) -> FastAPI:
    """The application.

    Args:
        uploads: a folder for files while they are looked at.
        model_name: for the page.
        hosts: names that it answers to; of a server that only this machine reaches, `LOOPBACK`, so that no site can
            call itself by its address.
    """
    limits = limits or ServerLimits()
    metrics = ServerMetrics()
    detections = DetectionQueue(predictor, metrics.batches.observe)
    server = _Server(predictor, corrections, uploads, limits, metrics, detections)

    @asynccontextmanager
    async def lifespan(app: FastAPI):
        yield
        detections.close()

    app = FastAPI(
        title="xray-lazy",
        lifespan=lifespan,
        docs_url=None,  # these pages are made of files from elsewhere
        redoc_url=None,
        telemetry={"tracing": False, "metrics": False, "logs": False},
        form_limits={"max_files": MOST_FILES, "max_fields": 8, "max_part_size": MOST_TEXT},
    )
    # the last one that is added is the first one that a request comes to
    most = {"most_requests": limits.queue, "most_bytes": int(limits.megabytes * 2**20)}
    app.add_middleware(RequestGate, hosts=hosts, **most)
    app.add_middleware(MeasuredRequests, metrics=metrics)

    @app.middleware("http")
    async def with_headers(request: Request, call_next) -> Response:
        response = await call_next(request)
        response.headers.update(HEADERS)
        return response

    @app.exception_handler(UserError)
    async def of_user(request: Request, error: UserError) -> JSONResponse:
        return JSONResponse({"detail": error.message, "fix": error.fix}, _status(error))

    @app.exception_handler(OSError)
    async def of_disk(request: Request, error: OSError) -> JSONResponse:
        log.error("%s", error)
        return JSONResponse({"detail": f"the server can't write: {error.strerror}", "fix": ""}, 507)

    @app.exception_handler(Exception)
    async def of_code(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": f"the server failed: {type(error).__name__}", "fix": ""}, 500)

    @app.exception_handler(AnyHTTPException)
    async def of_body(request: Request, error: AnyHTTPException) -> Response:
        if isinstance(error.__cause__, OSError):  # while it was received: no fault of the one who sent it
            return await of_disk(request, error.__cause__)
        return await http_exception_handler(request, error)

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(PAGE, media_type="text/html")

    @app.get("/health")
    async def health() -> JSONResponse:
        """200 while scans can be looked at, else 503."""
        is_well = detections.is_alive
        return JSONResponse({"status": "ok" if is_well else "the detection has ended"}, 200 if is_well else 503)

    @app.get("/metrics")
    async def prometheus() -> Response:
        """Numbers as Prometheus reads them."""
        return Response(metrics.text(), media_type="text/plain; version=0.0.4")

    @app.get("/api/model")
    async def model() -> dict[str, Any]:
        """The model's classes with their thresholds (null never alarms), and what a request may bring."""
        return {"model": model_name, **server.facts()}

    @app.post("/api/detect")
    def detect(files: list[UploadFile], picture: bool = False) -> JSONResponse:
        """What is found in images, in their order; files that are read with another one come along with it.

        `picture` adds what people see of each, a JPEG as a `data:` address.
        """
        return server.detect(files, picture)

    @app.post("/api/corrections")
    def correct(files: list[UploadFile], annotations: Annotated[str, Form()]) -> dict[str, Any]:
        """Add an image, with the files that are read with it, and its items to the set for the next training."""
        return server.correct(files, annotations)

    return app


class _Server:
    def __init__(
        self,
        predictor: Predictor,
        corrections: CorrectionSet,
        uploads: Path,
        limits: ServerLimits,
        metrics: ServerMetrics,
        detections: DetectionQueue,
    ) -> None:
        self._predictor, self._corrections, self._uploads = predictor, corrections, uploads
        self._limits, self._metrics, self._detections = limits, metrics, detections

    def facts(self) -> dict[str, Any]:
        names = self._predictor.class_names
        thresholds = np.broadcast_to(self._predictor.score_threshold, (len(names),)).tolist()
        own = [None if np.isinf(one) else one for one in thresholds]
        return {
            "classes": [{"name": name, "threshold": one} for name, one in zip(names, own, strict=True)],
            "masks": self._corrections.with_masks,
            "more_files": getattr(self._predictor.detector.reader, "more_files", []),
            "limits": {**vars(self._limits), "files": MOST_FILES},
        }

    def detect(self, files: Sequence[UploadFile], picture: bool) -> JSONResponse:
        with self._received(files) as scans:
            waiting = [self._detections.submit(scan.path) if scan.problem is None else None for scan in scans]
            answers, problems = [], []
            for scan, future in zip(scans, waiting, strict=True):
                prediction = _prediction(scan, future)
                self._metrics.scans.labels("looked_at" if prediction.problem is None else "refused").inc()
                if prediction.problem is not None:
                    problems.append(prediction.problem)
                    told = _told(prediction.problem, scan)
                    answers.append({"name": str(scan.name), "problem": told.message, "fix": told.fix})
                else:
                    answers.append(self._answer(scan, prediction, picture))
        # as tools/predict.py, which fails where nothing could be looked at
        status = 200 if len(problems) < len(scans) else _status(problems[0])
        return JSONResponse({"images": answers}, status)

    def correct(self, files: Sequence[UploadFile], annotations: str) -> dict[str, Any]:
        with self._received(files) as scans:
            if len(scans) != 1:
                raise HTTPException(422, f"corrections are of one image, and {len(scans)} came")
            scan = scans[0]
            if scan.problem is not None:
                raise _told(scan.problem, scan)
            with_masks, names = self._corrections.with_masks, self._corrections.class_names
            items = read_items(annotations, scan.size, names, with_masks)
            try:  # what the next training could not read is no image of its set
                self._predictor.detector.reader.read(scan.path)
            except UserError as problem:
                raise _told(problem, scan) from None
            try:
                images, count = self._corrections.add(scan, items)
            except UserError as problem:  # no fault of the one who sends it, who is not told of folders
                log.error("%s", problem.message)
                raise RunFailure(
                    "somebody changed the set of corrections, and nothing can be added to it", ""
                ) from None
        return {"images": images, "annotations": count}

    def _received(self, files: Sequence[UploadFile]):
        named = [(file.filename, file.file) for file in files]
        return received(named, self._predictor.detector.reader, self._limits.megapixels * 1e6, self._uploads)

    def _answer(self, scan: ReceivedScan, prediction: Prediction, picture: bool) -> dict[str, Any]:
        found = Found.of(prediction.instances, str(scan.name), None)
        categories = Categories.of(self._predictor.class_names, max(found.classes, default=-1), {})
        detections = []
        for class_id, result in zip(found.classes, found.results(categories.ids), strict=True):
            result.pop("image_id")
            detections.append({"class": categories.names[class_id], **result})
        answer = {"name": found.name, "width": found.width, "height": found.height, "detections": detections}
        if picture:
            _, encoded = cv2.imencode(".jpg", prediction.image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
            answer["picture"] = "data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode()
        return answer


def _prediction(scan: ReceivedScan, future: "Future[Prediction] | None") -> Prediction:
    try:
        return future.result() if future else Prediction(scan.path, problem=scan.problem)
    except Exception as error:  # of the whole batch
        log.exception("a batch failed")
        return Prediction(scan.path, problem=RunFailure(f"the network failed: {type(error).__name__}", ""))


def _told(problem: UserError, scan: ReceivedScan) -> UserError:
    """The problem without where the server keeps its files."""
    problem.message = problem.message.replace(f"{scan.root}/", "")
    return problem


def _status(problem: UserError) -> int:
    if isinstance(problem, TooManyPixels):
        return 413
    return 500 if isinstance(problem, RunFailure) else 422
