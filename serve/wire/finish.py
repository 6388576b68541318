"""What is recorded about every answered request: the counts of the metrics, and a record for the observers."""

from __future__ import annotations

import time
from typing import Protocol

from serve.answering.endpoint import PREDICTION_ROUTES, Endpoint
from serve.answering.prediction import Prediction
from serve.policy.serving import Serving
from serve.record.hook import RECORDERS, Refused
from serve.telemetry import metrics
from serve.telemetry.observers import OBSERVERS, notify
from serve.telemetry.request_record import RequestRecord
from serve.wire.parsed_head import ParsedHead

UNAVAILABLE = (429, 503)
"""The status where the server, not the request, is the reason why a car got no action."""


class Received(Protocol):
    """A request as far as its record needs it: `wire.request.Request`, or Flask's `g`.

    Attributes:
        parsed: its head; None where that could not be read.
        request_id: as in its response.
        received: when its first byte was read, by `time.perf_counter`.
    """

    parsed: ParsedHead | None
    request_id: str
    received: float


def finish(
    request: Received,
    route: str,
    status: int,
    version: str,
    prediction: Prediction | None = None,
    episode_id: str | None = None,
) -> None:
    """Counts a request that is answered, records its actions, and passes its record to the observers.

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
    if RECORDERS and prediction is not None:
        RECORDERS[0].answered(prediction, request.request_id)
    if OBSERVERS:
        record = _record(request, route, status, version, prediction, now)
        notify(record if episode_id is None else record._replace(episode_id=episode_id))


def record_error(
    request: Received, status: int, serving: Serving | None, prediction: Prediction | None, episode_id: str | None
) -> None:
    """Records a request for actions that got an error; to be called where there are RECORDERS.

    Requests that no policy looked at are recorded only where the server was too busy: what is not authorized, or names
    no policy here, is not part of what a car saw.

    Args:
        request: the request.
        status: of the response.
        serving: the policy that would have answered; None while there is none.
        prediction: None where it did not come as far as that.
        episode_id: of the episode that it named, if any.
    """
    is_of_a_car = prediction is not None or (status in UNAVAILABLE and _endpoint(request) is not None)
    if serving is not None and is_of_a_car:
        now = time.perf_counter()
        refused = Refused(serving, prediction, request.request_id, episode_id, request.received, now, status)
        RECORDERS[0].refused(refused)


def _endpoint(request: Received) -> Endpoint | None:
    return request.parsed.endpoint if request.parsed is not None else None


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
