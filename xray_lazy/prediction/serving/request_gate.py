"""What is asked of a request before it is read: that there is room for it, and that no other site's page sends it."""

import asyncio
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LONGEST_PAUSE = 30.0  # seconds between two pieces of a request


class RequestGate:
    """ASGI middleware: 400 for a name that is none of `hosts`; and of requests that send something

    413 where one has more than `most_bytes`; 503 where `most_requests` are in here, being received, waiting or looked
    at; 408 where one stops sending; 403 where a browser sends it for a page of another site, which may not write here.
    """

    def __init__(
        self,
        app: ASGIApp,
        hosts: Collection[str],
        most_requests: int,
        most_bytes: int,
        longest_pause: float = LONGEST_PAUSE,
    ) -> None:
        self._app, self._hosts, self._free, self._most_bytes = app, hosts, most_requests, most_bytes
        self._longest_pause = longest_pause
        self._too_large = f"a request may have {most_bytes / 2**20:g} MB: send fewer files at once"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        if scope["type"] == "http" and "*" not in self._hosts and _name(headers.get("host", "")) not in self._hosts:
            return await JSONResponse({"detail": "this server goes by another name"}, 400)(scope, receive, send)
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD"):
            return await self._app(scope, receive, send)
        if headers.get("origin") and urlsplit(headers["origin"]).netloc != headers.get("host"):
            return await JSONResponse({"detail": "sent by a page of another site"}, 403)(scope, receive, send)
        if int(headers.get("content-length", 0)) > self._most_bytes:
            return await JSONResponse({"detail": self._too_large}, 413)(scope, receive, send)
        if not self._free:
            busy = JSONResponse({"detail": "too many requests are waiting; try again"}, 503, {"Retry-After": "1"})
            return await busy(scope, receive, send)
        self._free -= 1
        try:
            await self._app(scope, self._in_time(receive), send)
        finally:
            self._free += 1

    def _in_time(self, receive: Receive) -> Receive:
        is_whole, size = False, 0

        async def receive_in_time() -> Message:
            nonlocal is_whole, size
            if is_whole:  # what comes now is the client's end
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), self._longest_pause)
            except TimeoutError:
                raise HTTPException(408, f"nothing came for {self._longest_pause:g} seconds") from None
            size += len(message.get("body", b""))
            if size > self._most_bytes:
                raise HTTPException(413, self._too_large)
            is_whole = not message.get("more_body")
            return message

        return receive_in_time


def _name(host: str) -> str | None:
    """Of a Host header, without port and brackets."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None
