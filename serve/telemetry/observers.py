"""Passes a record of each answered request to the configured observers: the log, OpenTelemetry.

By default there are none: at tens of thousands of requests a second a log line costs more than a response.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from serve.settings import Settings
from serve.telemetry.request_record import RequestRecord

log = logging.getLogger("serve.request")


OBSERVERS: list[Callable[[RequestRecord], None]] = []
"""The observers of this process. Callers check that there are any before they create a RequestRecord."""


def start_observers(settings: Settings) -> None:
    """Sets up this worker's observers; to be called once, in the worker's process."""
    from serve.telemetry.tracing import Spans, is_tracing

    if settings.log_requests != "none":
        OBSERVERS.append(write_line if settings.log_requests == "all" else write_refusal)
    if is_tracing():
        OBSERVERS.append(Spans().add)


def notify(record: RequestRecord) -> None:
    """Passes a record to each observer; logs the error of one that fails."""
    for observe in OBSERVERS:
        try:
            observe(record)
        except Exception:  # the boundary
            log.exception("an observer failed at request %s", record.request_id)


def write_refusal(record: RequestRecord) -> None:
    """Logs a request that was answered with an error."""
    if record.status >= 400:
        write_line(record)


def write_line(record: RequestRecord) -> None:
    """Logs a request; in a JSON log each field also has its own key."""
    total_ms = (record.ended - record.received) * 1e3
    fields = {
        "method": record.method,
        "route": record.route,
        "status": record.status,
        "version": record.version,
        "rows": record.rows,
        "total_ms": round(total_ms, 3),
        "inference_ms": round(record.inference_ms, 3),
        "request_id": record.request_id,
        "episode_id": record.episode_id,
    }
    text = "%s %s %d in %.2f ms, version %s, request %s%s"
    episode = f", episode {record.episode_id}" if record.episode_id else ""
    values = (record.method, record.route, record.status, total_ms, record.version, record.request_id, episode)
    log.info(text, *values, extra=fields)
