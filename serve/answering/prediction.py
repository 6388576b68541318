"""The path of a prediction, from the bytes of a request to the bytes of its response: decode, forward, encode.

Every server goes this way: the event loop (`serve/batching`), Ray, and the Flask app, which calls `answer`. They
differ only in how many predictions share a forward.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import msgspec

from serve.answering.endpoint import Answer, EncodedRequest, Endpoint
from serve.answering.forward import BatchSlice, act_together
from serve.codecs.carla import PredictRequest
from serve.codecs.gzip_body import inflate
from serve.errors import ApiError
from serve.policy.serving import Serving

NEVER = float("inf")


def answer(prediction: Prediction) -> Answer:
    """Answers one prediction by a forward of its own.

    Raises:
        ApiError: the request is invalid, or its budget is over.
        SpecError: an observation does not fit.
        ActionError: the policy gave no usable action.
    """
    prediction.decode()
    [outcome] = forward([prediction])
    if isinstance(outcome, Exception):
        raise outcome
    return prediction.encode(outcome)


class Prediction:
    """One request for actions.

    Attributes:
        endpoint: of the request.
        serving: the policy that answers.
        encoded: the request as received.
        received: when its first byte was read, by `time.perf_counter`.
        ends: when its budget is over, by the same clock.
        request: the decoded request; None before `decode`.
        decode_s: duration of decoding, seconds.
        started: when its forward began, by the same clock; 0 before.
        ended: when its actions were ready, by the same clock; 0 before.
        inference_ms: duration of its forward, milliseconds.
    """

    __slots__ = (
        "decode_s", "encoded", "ended", "endpoint", "ends", "inference_ms", "received", "request", "serving", "started",
    )  # fmt: skip

    def __init__(
        self, endpoint: Endpoint, serving: Serving, encoded: EncodedRequest, received: float, budget_ms: float | None
    ) -> None:
        """`budget_ms` is the smaller of the client's header and the server's setting; a body may ask for less."""
        self.endpoint, self.serving, self.encoded, self.received = endpoint, serving, encoded, received
        self.ends = NEVER if budget_ms is None else received + budget_ms / 1e3
        self.request: PredictRequest | None = None
        self.decode_s = self.started = self.ended = self.inference_ms = 0.0

    def decode(self) -> PredictRequest:
        """Decodes the body; to be called once; raises ApiError or SpecError."""
        encoded, began = self.encoded, time.perf_counter()
        if encoded.gzip_limit is not None:
            encoded = msgspec.structs.replace(encoded, body=inflate(encoded.body, encoded.gzip_limit))
        self.request = request = self.endpoint.decode(self.serving, encoded)
        self.decode_s = time.perf_counter() - began
        if request.budget_ms is not None:
            self.ends = min(self.ends, self.received + request.budget_ms / 1e3)
        return request

    def encode(self, answered: BatchSlice) -> Answer:
        """Encodes the actions of this request as the body of its response."""
        assert self.request is not None
        self.ended = now = time.perf_counter()
        self.inference_ms = answered.batch.actions.inference_ms
        timing_ms = b'{"queue":%.4f,"inference":%.4f,"total":%.4f}' % (
            (self.started - self.received) * 1e3, self.inference_ms, (now - self.received) * 1e3,
        )  # fmt: skip
        return self.endpoint.encode(self.serving, self.request, answered, timing_ms)


def forward(predictions: Sequence[Prediction]) -> list[BatchSlice | Exception]:
    """Answers decoded predictions of one policy and mode by one forward: each gets its rows of it, or its own error.

    One whose budget is over before or after the forward gets the card's fallback.
    """
    serving, started = predictions[0].serving, time.perf_counter()
    requests = []
    for prediction in predictions:
        prediction.started = started
        if started < prediction.ends and prediction.request is not None:
            requests.append(prediction.request)
    outcomes = _act(serving, requests) if requests else []
    ended = time.perf_counter()
    if len(outcomes) == len(predictions) and all(ended < prediction.ends for prediction in predictions):
        return outcomes
    rest = iter(outcomes)
    in_time = [next(rest) if started < prediction.ends else None for prediction in predictions]
    return [
        too_late(serving) if ended >= prediction.ends or outcome is None else outcome
        for prediction, outcome in zip(predictions, in_time, strict=True)
    ]


def _act(serving: Serving, requests: list[PredictRequest]) -> list[BatchSlice | Exception]:
    try:
        return act_together(serving, requests)
    except Exception as error:  # the boundary: a forward that raises is an error of the server, not of one request
        return [error] * len(requests)


def too_late(serving: Serving) -> ApiError:
    """Returns the error for a request whose budget is over: it carries the card's fallback."""
    return ApiError(
        "deadline_exceeded",
        "no action within the time allowed; `fallback` is what to do instead",
        extra={"fallback": msgspec.to_builtins(serving.card.action.fallback)},
    )
