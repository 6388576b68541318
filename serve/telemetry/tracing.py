"""OpenTelemetry: a span for each request, within the trace that its `traceparent` names, and one for its forward.

Configured by OpenTelemetry's own variables: a thread sends the spans to OTEL_EXPORTER_OTLP_ENDPOINT. Spans that it
can't send in time are dropped, so that no request waits for them.
"""

from __future__ import annotations

import atexit
import importlib.util
import os
import time

from serve.telemetry.request_record import RequestRecord

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
MAX_FLUSH_MS = 1000
"""Most milliseconds that a stopping worker takes to send its last spans."""


def is_tracing() -> bool:
    """Whether the environment names an endpoint for spans."""
    wanted = os.environ.get("OTEL_TRACES_EXPORTER", "otlp") == "otlp"
    return wanted and any(os.environ.get(name) for name in ENDPOINTS)


def missing() -> str | None:
    """Returns a message if tracing is configured but its package is not installed, else None."""
    if is_tracing() and importlib.util.find_spec("opentelemetry.exporter.otlp.proto.http") is None:
        return "OTEL_EXPORTER_OTLP_ENDPOINT is set, which needs: pip install 'carla-mlflow[tracing]'"
    return None


class Spans:
    """Creates the spans of answered requests, and sends them."""

    def __init__(self) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        name = os.environ.get("OTEL_SERVICE_NAME", "carla-serve")
        provider = TracerProvider(resource=Resource.create({"service.name": name}))
        self._sender = BatchSpanProcessor(OTLPSpanExporter())
        provider.add_span_processor(self._sender)
        self._tracer = provider.get_tracer("carla-serve")
        self._parents = TraceContextTextMapPropagator()
        atexit.register(self.flush)

    def add(self, record: RequestRecord) -> None:
        """Records the spans of one request."""
        from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

        ended, now = time.time_ns(), time.perf_counter()
        begun = ended - int((now - record.received) * 1e9)
        span = self._tracer.start_span(
            f"{record.method} {record.route}",
            self._parents.extract(record.headers),
            SpanKind.SERVER,
            {
                "http.request.method": record.method,
                "http.route": record.route,
                "http.response.status_code": record.status,
                "policy.version": record.version,
                "policy.rows": record.rows,
                "policy.request_id": record.request_id,
            },
            start_time=begun,
        )
        if record.episode_id is not None:
            span.set_attribute("policy.episode_id", record.episode_id)
        if record.status >= 500:
            span.set_status(Status(StatusCode.ERROR))
        if record.started is not None:
            start = begun + int((record.started - record.received) * 1e9)
            forward = self._tracer.start_span("forward", set_span_in_context(span), start_time=start)
            forward.end(start + int(record.inference_ms * 1e6))
        span.end(ended)

    def flush(self) -> None:
        """Sends the remaining spans, within MAX_FLUSH_MS."""
        self._sender.force_flush(MAX_FLUSH_MS)
