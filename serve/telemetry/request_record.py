"""The record of one answered request, for the log and OpenTelemetry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class RequestRecord(NamedTuple):
    """An answered request and its timings.

    Attributes:
        method: GET, POST, ….
        route: one of few; `other` for what is not served.
        status: of the response.
        version: of the policy; empty while there is none.
        request_id: the id in the response.
        headers: of the request, names in lower case.
        received: when its first byte was read, by `time.perf_counter`.
        ended: when its response was written.
        started: when its forward began; None where there was none.
        inference_ms: duration of its forward, milliseconds.
        rows: number of observations.
        episode_id: of the episode that it named, if any.
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
    episode_id: str | None = None
