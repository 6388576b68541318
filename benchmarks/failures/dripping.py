"""A registry from which one version's files come a byte every fifth of a second."""

from __future__ import annotations

import time
from http.server import BaseHTTPRequestHandler

from benchmarks.failures.proxy import Proxy

DRIP_S = 0.2


class DrippingRegistry(Proxy):
    """A context manager that runs the proxy in threads.

    Attributes:
        url: for MLFLOW_TRACKING_URI.
        drips: text in the path of the downloads to slow; None slows none.
        dripped: the paths of the downloads that were slowed.
    """

    def __init__(self, target: str) -> None:
        super().__init__(target)
        self.drips: str | None = None
        self.dripped: list[str] = []

    def __exit__(self, *_: object) -> None:
        self.drips = None  # ends the downloads that are under way
        super().__exit__()

    def send_body(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        if self._is_to_drip(request.path):
            self.dripped.append(request.path)
            while self._is_to_drip(request.path) and len(body) > 1:
                request.wfile.write(body[:1])
                body = body[1:]
                time.sleep(DRIP_S)
        request.wfile.write(body)

    def _is_to_drip(self, path: str) -> bool:
        return self.drips is not None and self.drips in path and "/mlflow-artifacts/artifacts/" in path
