"""A stand-in of the W&B service on this machine, for tests of what a real `wandb` client sends.

    def test_something(wandb_service):              # fixture of tests/conftest.py; the client is logged in to it
        ...                                         # wandb.init(mode="online"), or a child process with
        ...                                         # env=os.environ | wandb_service.environment(tmp_path)
        run = wandb_service.runs["abc123"]          # by id; `wandb_service.only_run()` where there is one
        run.rows                                    # history rows in the server's order, W&B's own `_` keys left out
        run.history, run.summary, run.config, run.tags, run.group, run.state, run.exit_code, run.files["config.yaml"]
        wandb_service.sweeps, wandb_service.agents  # sweep.config (dict), sweep.run_ids; agent.host
        wandb_service.operations                    # names of the GraphQL operations in the order they came

Faults, at any time: `stop()` cuts all connections and closes the port, `start()` opens the same port again;
`delay = 2.0` waits before each answer; `hang()` accepts and never answers until `answer()`; `status = 500` answers so.

Sweeps: each heartbeat of an idle agent gets the next trial of a grid, or random values, until `run_cap` (or a grid's
end), then the command to exit. `stop_run(run_id)` has the agent stop a trial, as early termination does.
"""

import contextlib
import gzip
import json
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.wandb_backend import ServedRun, WandbBackend

API_KEY = "0123456789" * 4


class WandbService(WandbBackend):
    """The service, answering in threads of this process until `stop`."""

    def __init__(self):
        self.delay = 0.0
        self.status = 200
        self._answering = threading.Event()
        self._answering.set()
        # bound, and never listening: while the service is stopped the system gives its port to nobody else
        self._held_port = socket.socket()
        self._held_port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._held_port.bind(("127.0.0.1", 0))
        self._server = _Server(self._held_port.getsockname(), self)
        super().__init__(f"http://127.0.0.1:{self._server.server_port}")
        self._serve()

    def environment(self, home: str | Path) -> dict[str, str]:
        """Variables that log a client in here and keep it out of the person's own W&B settings."""
        return {
            "WANDB_BASE_URL": self.url,
            "WANDB_API_KEY": API_KEY,
            "HOME": str(home),
            "NETRC": str(Path(home) / "netrc"),
            "WANDB_CONFIG_DIR": str(Path(home) / "wandb_config"),
            "WANDB_CACHE_DIR": str(Path(home) / "wandb_cache"),
            "WANDB_DATA_DIR": str(Path(home) / "wandb_data"),
            "WANDB_ERROR_REPORTING": "false",
            "WANDB_X_DISABLE_UPDATE_CHECK": "true",
        }

    def start(self) -> None:
        """Open the same port again."""
        self._server = _Server(self._server.server_address, self)
        self._serve()

    def stop(self) -> None:
        """Cut all connections and close the port; what was received stays."""
        self._server.shutdown()
        self._server.cut()
        self._server.server_close()

    def release_port(self) -> None:
        """After the last `stop`."""
        self._held_port.close()

    def _serve(self) -> None:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def hang(self) -> None:
        """Accept connections and answer nothing until `answer()`."""
        self._answering.clear()

    def answer(self) -> None:
        """End `hang()`: what was asked meanwhile is answered."""
        self._answering.set()

    def wait_until_answering(self) -> None:
        """As each request does: `delay`, then the end of `hang()`."""
        time.sleep(self.delay)
        self._answering.wait()

    def only_run(self) -> ServedRun:
        """The run, where there is one."""
        (run,) = self.runs.values()
        return run

    def stop_run(self, run_id: str) -> None:
        """Have the agent of this trial stop it at its next heartbeat."""
        self.sweeps[self.runs[run_id].sweep].to_stop.add(run_id)

    def wait_for(self, condition: Callable[[], Any], seconds: float = 20) -> Any:
        """Wait until `condition()` holds and return what it says.

        Raises:
            TimeoutError: it didn't in this time.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with contextlib.suppress(KeyError, IndexError, ValueError):  # such as a run that isn't there yet
                if found := condition():
                    return found
            time.sleep(0.02)
        raise TimeoutError(f"not within {seconds} s; operations: {self.operations}")


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], service: WandbService):
        self.service = service
        self._connections: set[socket.socket] = set()
        super().__init__(address, _Handler)

    def process_request(self, request: socket.socket, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: socket.socket) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: socket.socket, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], OSError | ValueError):  # a cut connection is no error here
            super().handle_error(request, client_address)

    def cut(self) -> None:
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        content = json.loads(self._body())
        service, path = self.server.service, unquote(urlsplit(self.path).path)
        self.server.service.wait_until_answering()
        if service.status != 200:
            self._send({"errors": [{"message": "out of order"}]}, service.status)
        elif path == "/graphql":
            self._send(service.graphql(content))
        elif path.endswith("/file_stream"):
            self._send(service.file_stream(service.runs[path.split("/")[-2]], content))
        else:
            self._send({"error": f"the stand-in doesn't know {path}"}, 404)

    def do_PUT(self) -> None:
        content = self._body()
        self.server.service.wait_until_answering()
        if self.server.service.status == 200:
            self.server.service.receive(unquote(urlsplit(self.path).path), content)
        self._send({}, self.server.service.status)

    def do_GET(self) -> None:
        self.server.service.wait_until_answering()
        self._send({}, 404 if self.server.service.status == 200 else self.server.service.status)

    def _body(self) -> bytes:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def _send(self, answer: dict[str, Any], status: int = 200) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@contextlib.contextmanager
def serving() -> Iterator[WandbService]:
    """A service for as long as the block lasts."""
    service = WandbService()
    try:
        yield service
    finally:
        service.answer()
        service.stop()
        service.release_port()
