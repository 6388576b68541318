"""A proxy between a server and a registry, for what a registry in trouble does: each kind of trouble is a subclass."""

from __future__ import annotations

import contextlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple, Self

import httpcore

HOP_BY_HOP = {"connection", "transfer-encoding", "content-length", "server", "date", "accept-encoding"}
"""Headers that belong to one connection, and so are not passed on."""


class Passed(NamedTuple):
    """A response to pass on."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


class Proxy:
    """A context manager that runs the proxy in threads, and passes everything on unchanged.

    Attributes:
        url: for MLFLOW_TRACKING_URI.
    """

    def __init__(self, target: str) -> None:
        """Args: the registry's URL."""
        self._target = target
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                proxy.answer(self)

            do_POST = do_GET  # noqa: N815  http.server requires that name

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Answers one request."""
        content = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        response = self.response_to(request, content)
        request.send_response(response.status)
        for name, value in response.headers:
            if name.lower() not in HOP_BY_HOP:
                request.send_header(name, value)
        request.send_header("Content-Length", str(len(response.body)))
        request.end_headers()
        with contextlib.suppress(OSError):  # the client is gone
            self.send_body(request, response.body)

    def response_to(self, request: BaseHTTPRequestHandler, content: bytes) -> Passed:
        """The response to send: the registry's own."""
        headers = [(name, value) for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP]
        done = httpcore.request(request.command, self._target + request.path, headers=headers, content=content)
        return Passed(done.status, [(name.decode(), value.decode()) for name, value in done.headers], done.content)

    def send_body(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        """Sends the response's body, at once."""
        request.wfile.write(body)
