"""One request that was answered, as it is told to the log and to OpenTelemetry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class RequestRecord(NamedTuple):
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
