"""A proxy that lets every answer come a fixed time after its request."""

from __future__ import annotations

import socket
import time
from http.server import BaseHTTPRequestHandler

from benchmarks.failures.proxy import Passed, Proxy


class DelayingProxy(Proxy):
    """Between a client and a policy server; a context manager."""

    def __init__(self, target: str, seconds: float) -> None:
        """Args: the server's URL, and how long after a request its answer is sent; later where the server is slower."""
        super().__init__(target)
        self._seconds = seconds

    def response_to(self, request: BaseHTTPRequestHandler, content: bytes) -> Passed:
        """The server's own, in time."""
        ends = time.monotonic() + self._seconds
        # Head and body are two writes, and the second would wait for the client's acknowledgement of the first.
        request.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        response = super().response_to(request, content)
        time.sleep(max(ends - time.monotonic(), 0.0))
        return response
