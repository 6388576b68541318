"""Stands between a server and the real registry, and does what a registry in trouble does."""

from __future__ import annotations

import time
from http.server import BaseHTTPRequestHandler

from benchmarks.failures.proxy import Passed, Proxy

HTML = [("Content-Type", "text/html")]
MOODS = {
    "500": Passed(500, HTML, b"Internal Server Error"),
    "html": Passed(200, HTML, b"<html>Please log in</html>"),
    "empty": Passed(200, HTML, b"{}"),
}
FAILED = Passed(500, [], b"Internal Server Error")


class RegistryProxy(Proxy):
    """Context. `mood`: pass, 500, html, empty, hang, lie (every digest is another), no-files (only
    requests for files fail). Requests whose path holds `silent_about` always fail."""

    def __init__(self, target: str) -> None:
        super().__init__(target)
        self.mood = "pass"
        self.silent_about: str | None = None

    def __exit__(self, *_: object) -> None:
        self.mood = "pass"  # ends the requests that hang
        super().__exit__()

    def response_to(self, request: BaseHTTPRequestHandler, content: bytes) -> Passed:
        while self.mood == "hang":
            time.sleep(0.05)
        if self.mood in MOODS:
            return MOODS[self.mood]
        if self.silent_about is not None and self.silent_about in request.path:
            return FAILED
        if self.mood == "no-files" and "/mlflow-artifacts/" in request.path:
            return FAILED
        response = super().response_to(request, content)
        return (
            response._replace(body=response.body.replace(b"sha256:", b"sha256:0000"))
            if self.mood == "lie"
            else response
        )
