"""Requests that were answered, told to whoever was set up to hear of each: the log, OpenTelemetry.

Nobody is, by default: at tens of thousands of requests a second a line for each costs more than its answer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from serve.settings import Settings

if TYPE_CHECKING:
    from serve.answering.forward import Answered
    from serve.policy.slot import Serving
    from serve.wire.request import Request

log = logging.getLogger("serve.request")


class Finished(NamedTuple):
    """A request, and how it went.

    Attributes:
        method: GET, POST, ….
        route: one of few; `other` for what is not served.
        status: of the answer.
        version: of the policy; empty while there is none.
        request_id: that the answer carries.
        headers: of the request, names in lower case.
        received: when its first byte was read, by `time.perf_counter`.
        ended: when its answer was written.
        started: when its forward began; None where there was none.
        inference_ms: of its forward.
        rows: observations.
    """

    method: str
    route: str
    status: int
    version: str
    request_id: str
    headers: Mapping[str, str]
    received: float
    ended: float
    started: float | None = None
    inference_ms: float = 0.0
    rows: int = 0


def finished(
    request: Request,
    status: int,
    serving: Serving | None,
    ended: float,
    started: float | None = None,
    answered: Answered | None = None,
) -> Finished:
    """What is to be told of a request of the event loop's."""
    plan = request.plan
    route = plan.door.route if plan and plan.door else "other"
    method, headers = (plan.head.method, plan.head.headers) if plan else ("", {})
    version = serving.version if serving else ""
    asked = Finished(method, route, status, version, request.request_id, headers, request.received, ended, started)
    if answered is None:
        return asked
    rows = answered.stop - answered.start
    return asked._replace(inference_ms=answered.batch.actions.inference_ms, rows=rows)


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
