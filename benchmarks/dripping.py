"""A proxy of a registry that slows one version's downloads to a byte every fifth of a second."""

from __future__ import annotations

import contextlib
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpcore

DRIP_S = 0.2
HOP_BY_HOP = {"connection", "transfer-encoding", "content-length", "server", "date", "accept-encoding"}


class DrippingRegistry:
    """A context manager that runs the proxy in threads.

    Attributes:
        url: for MLFLOW_TRACKING_URI.
        drips: text in the path of the downloads to slow; None slows none.
        dripped: the paths of the downloads that were slowed.
    """

    def __init__(self, target: str) -> None:
        self.drips: str | None = None
        self.dripped: list[str] = []
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

    def __enter__(self) -> DrippingRegistry:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.drips = None
        self._server.shutdown()
        self._server.server_close()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Forwards a request to the registry, and its response to the client."""
        content = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        headers = [(name, value) for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP]
        done = httpcore.request(request.command, self._target + request.path, headers=headers, content=content)
        request.send_response(done.status)
        for name, value in done.headers:
            if name.decode().lower() not in HOP_BY_HOP:
                request.send_header(name.decode(), value.decode())
        request.send_header("Content-Length", str(len(done.content)))
        request.end_headers()
        with contextlib.suppress(OSError):  # the client is gone
            self._send(request, done.content)

    def _send(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        if self._is_to_drip(request.path):
            self.dripped.append(request.path)
            while self._is_to_drip(request.path) and len(body) > 1:
                request.wfile.write(body[:1])
                body = body[1:]
                time.sleep(DRIP_S)
        request.wfile.write(body)

    def _is_to_drip(self, path: str) -> bool:
        return self.drips is not None and self.drips in path and "/mlflow-artifacts/artifacts/" in path
