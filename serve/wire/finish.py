"""What is recorded about every answered request: the counts of the metrics, and a record for the observers."""

from __future__ import annotations

import time
from typing import Protocol

from serve.answering.endpoint import PREDICTION_ROUTES
from serve.answering.prediction import Prediction
from serve.telemetry import metrics
from serve.telemetry.latest_actions import LatestActions
from serve.telemetry.observers import OBSERVERS, notify
from serve.telemetry.request_record import RequestRecord
from serve.wire.parsed_head import ParsedHead


class Received(Protocol):
    """A request as far as its record needs it: `wire.request.Request`, or Flask's `g`.

    Attributes:
        parsed: its head; None where that could not be read.
        request_id: as in its response.
        received: when its first byte was read, by `time.perf_counter`.
        latest_actions: of its connection; None where the server is not told on which connection a request came.
    """

    parsed: ParsedHead | None
    request_id: str
    received: float

    @property
    def latest_actions(self) -> LatestActions | None: ...


def finish(
    request: Received,
    route: str,
    status: int,
    version: str,
    prediction: Prediction | None = None,
    episode_id: str | None = None,
) -> None:
    """Counts a request that is answered, and passes its record to the observers.

    Args:
        request: the request.
        route: its name in metrics.
        status: of the response.
        version: of the policy; empty while there is none.
        prediction: if it was answered with actions.
        episode_id: of the episode that it named, in its head or its body.
    """
    if prediction is None:
        now = time.perf_counter()
        total_s = now - request.received if route in PREDICTION_ROUTES else None
        metrics.BUFFER.answered(route, status, version, None, total_s)
    else:
        now, received = prediction.ended, request.received
        metrics.BUFFER.answered(
            route, status, version, prediction.started - received, now - received, prediction.decode_s
        )
    if episode_id is not None:
        _count_change(request.latest_actions, episode_id, prediction)
    if OBSERVERS:
        record = _record(request, route, status, version, prediction, now)
        notify(record if episode_id is None else record._replace(episode_id=episode_id))


def _count_change(latest: LatestActions | None, episode_id: str, prediction: Prediction | None) -> None:
    if latest is None:
        return
    if prediction is None or prediction.answered is None:  # its car did something else, not known here
        latest.forget(episode_id)
        return
    control = prediction.answered.control
    before = latest.replace(episode_id, control)
    if before is not None:
        metrics.BUFFER.changed(before, control)


def _record(
    request: Received, route: str, status: int, version: str, prediction: Prediction | None, ended: float
) -> RequestRecord:
    parsed = request.parsed
    method, headers = (parsed.head.method, parsed.head.headers) if parsed else ("", {})
    record = RequestRecord(method, route, status, version, request.request_id, headers, request.received, ended)
    if prediction is None or prediction.answered is None:
        return record
    answered = prediction.answered
    inference_ms, rows = answered.batch.actions.inference_ms, answered.stop - answered.start
    return record._replace(started=prediction.started, inference_ms=inference_ms, rows=rows)
