"""Numbers of a server, as Prometheus reads them."""

import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class ServerMetrics:
    """Requests by route and status, their seconds, scans by outcome, batches, and the process's memory."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        own = {"registry": self._registry}
        self.requests = Counter("xray_requests", "answered requests", ["route", "status"], **own)
        self.seconds = Histogram("xray_request_seconds", "from a request's start to its answer's end", ["route"], **own)
        self.in_progress = Gauge("xray_requests_in_progress", "received, waiting or looked at", **own)
        self.scans = Counter("xray_scans", "images that were sent", ["outcome"], **own)
        self.batches = Histogram("xray_batch_scans", "scans at once", buckets=(1, 2, 4, 8, 16, 32, 64), **own)

    def text(self) -> bytes:
        return generate_latest(self._registry)


class MeasuredRequests:
    """ASGI middleware that counts and times requests."""

    def __init__(self, app: ASGIApp, metrics: ServerMetrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        start, status = time.perf_counter(), [500]
        with self._metrics.in_progress.track_inprogress():
            try:
                await self._app(scope, receive, _noting(status, send))
            finally:
                # names that a client makes up are no labels: each would be kept
                route = getattr(scope.get("route"), "path", "other")
                self._metrics.requests.labels(route, str(status[0])).inc()
                self._metrics.seconds.labels(route).observe(time.perf_counter() - start)


def _noting(status: list[int], send: Send) -> Callable:
    async def send_and_note(message: Message) -> None:
        if message["type"] == "http.response.start":
            status[0] = message["status"]
        await send(message)

    return send_and_note
