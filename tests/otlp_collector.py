"""An OpenTelemetry collector, as far as spans are concerned: takes OTLP over HTTP."""

from __future__ import annotations

import contextlib
import gzip
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from patience import PATIENCE_S


class Collector:
    """What came.

    Attributes:
        url: for OTEL_EXPORTER_OTLP_ENDPOINT.
        spans: of all services, as OTLP has them.
        services: their names.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.spans: list[Any] = []
        self.services: set[str] = set()

    def take(self, body: bytes) -> None:
        """One export."""
        for group in ExportTraceServiceRequest.FromString(body).resource_spans:
            names = [a.value.string_value for a in group.resource.attributes if a.key == "service.name"]
            self.services.update(names)
            self.spans += [span for scope in group.scope_spans for span in scope.spans]

    def wait_for(self, count: int, limit_s: float = PATIENCE_S) -> list[Any]:
        """The spans, once there are so many."""
        ends = time.monotonic() + limit_s
        while len(self.spans) < count and time.monotonic() < ends:
            time.sleep(0.05)
        assert len(self.spans) == count
        return self.spans


@contextlib.contextmanager
def collecting() -> Iterator[Collector]:
    """A collector that runs."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            collector.take(gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector = Collector(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
