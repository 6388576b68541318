"""Stands between a server and the real registry, and does what a registry in trouble does."""

from __future__ import annotations

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpcore

HOP_BY_HOP = {"connection", "transfer-encoding", "content-length", "server", "date"}


class RegistryProxy:
    """Context. `mood`: pass, 500, html, empty, hang, lie (every digest is another), no-files (only
    requests for files fail). Requests whose path holds `silent_about` always fail."""

    def __init__(self, target: str) -> None:
        self.mood = "pass"
        self.silent_about: str | None = None
        self._target = target
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                proxy.answer(self)

            do_POST = do_GET  # noqa: N815  http.server asks for that name

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> RegistryProxy:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.mood = "pass"
        self._server.shutdown()
        self._server.server_close()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        status, headers, data = self._answer(request, body)
        request.send_response(status)
        for name, value in headers:
            if name.lower() not in HOP_BY_HOP:
                request.send_header(name, value)
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data)

    def _answer(self, request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        while self.mood == "hang":
            time.sleep(0.05)
        if self.mood in {"500", "html", "empty"}:
            data = {"500": b"Internal Server Error", "html": b"<html>Please log in</html>", "empty": b"{}"}[self.mood]
            return 500 if self.mood == "500" else 200, [("Content-Type", "text/html")], data
        if self.silent_about is not None and self.silent_about in request.path:
            return 500, [], b"Internal Server Error"
        if self.mood == "no-files" and "/mlflow-artifacts/" in request.path:
            return 500, [], b"Internal Server Error"
        headers = [(k, v) for k, v in request.headers.items() if k.lower() not in HOP_BY_HOP | {"accept-encoding"}]
        done = httpcore.request(request.command, self._target + request.path, headers=headers, content=body)
        data = done.content
        if self.mood == "lie":
            data = data.replace(b"sha256:", b"sha256:0000")
        return done.status, [(k.decode(), v.decode()) for k, v in done.headers], data
