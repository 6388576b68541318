"""Requests that were answered, told to whoever was set up to hear of each: the log, OpenTelemetry.

Nobody is, by default: at tens of thousands of requests a second a line for each costs more than its answer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from serve.settings import Settings
from serve.telemetry.request_record import Finished

if TYPE_CHECKING:
    pass

log = logging.getLogger("serve.request")


OBSERVERS: list[Callable[[Finished], None]] = []
"""Of this process. Whoever answers asks whether there are any before a Finished is made."""


def start_observers(settings: Settings) -> None:
    """Sets up this worker's observers; to be called once, in its own process."""
    from serve.telemetry.tracing import Spans, is_tracing

    if settings.log_requests != "none":
        OBSERVERS.append(write_line if settings.log_requests == "all" else write_refusal)
    if is_tracing():
        OBSERVERS.append(Spans().add)


def tell(finished: Finished) -> None:
    """Tells the observers; one that fails is not the request's fault."""
    for observe in OBSERVERS:
        try:
            observe(finished)
        except Exception:  # the boundary
            log.exception("request %s could not be told of", finished.request_id)


def write_refusal(finished: Finished) -> None:
    """A line for a request that was not answered as it wished."""
    if finished.status >= 400:
        write_line(finished)


def write_line(finished: Finished) -> None:
    """A line; the fields stand by themselves where lines are JSON."""
    total_ms = (finished.ended - finished.received) * 1e3
    fields = {
        "method": finished.method,
        "route": finished.route,
        "status": finished.status,
        "version": finished.version,
        "rows": finished.rows,
        "total_ms": round(total_ms, 3),
        "inference_ms": round(finished.inference_ms, 3),
        "request_id": finished.request_id,
    }
    text = "%s %s %d in %.2f ms, version %s, request %s"
    values = (finished.method, finished.route, finished.status, total_ms, finished.version, finished.request_id)
    log.info(text, *values, extra=fields)
