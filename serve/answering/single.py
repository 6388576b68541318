"""Bytes of one request → bytes of its response, for the Flask app; deadlines and timings, for every endpoint."""

from __future__ import annotations

import time
from typing import NamedTuple

import msgspec

from serve.answering.endpoint import Answer, EncodedRequest, Endpoint
from serve.answering.forward import BatchSlice, act_together
from serve.codecs.carla import PredictRequest
from serve.errors import ApiError
from serve.policy.serving import Serving
from serve.telemetry import metrics


class SingleResult(NamedTuple):
    """A response and its timings.

    Attributes:
        answer: the encoded response.
        started: when the forward began, by `time.perf_counter`.
        decode_s: duration of decoding, seconds.
        inference_ms: duration of the forward, milliseconds.
        rows: number of observations.
    """

    answer: Answer
    started: float
    decode_s: float
    inference_ms: float
    rows: int


def answer_single(
    endpoint: Endpoint, serving: Serving, asked: EncodedRequest, received: float, header_budget_ms: float | None
) -> SingleResult:
    """Answers one request.

    Args:
        endpoint: the endpoint of the request.
        serving: the policy that answers.
        asked: the request.
        received: when its first byte was read, by `time.perf_counter`.
        header_budget_ms: X-Request-Budget-Ms; the smaller of it and the body's `budget_ms` applies.

    Raises:
        ApiError: the request is invalid, or its budget is over.
        SpecError: an observation does not fit.
        ActionError: the policy gave no usable action.
    """
    began = time.perf_counter()
    request = endpoint.decode(serving, asked)
    decode_s = time.perf_counter() - began
    ends = deadline(request, received, header_budget_ms)
    started = time.perf_counter()
    if started >= ends:
        raise too_late(serving)
    [answered] = act_together(serving, [request])
    if isinstance(answered, Exception):
        raise answered
    answer = endpoint.encode(serving, request, answered, timing_ms(received, started, time.perf_counter(), answered))
    return SingleResult(answer, started, decode_s, answered.batch.actions.inference_ms, answered.stop)


def deadline(request: PredictRequest | None, received: float, header_budget_ms: float | None) -> float:
    """Returns when a response is too late, by `time.perf_counter`; `request` is None before it is decoded."""
    budget, ends = request.budget_ms if request is not None else None, float("inf")
    if budget is not None:
        ends = received + budget / 1e3
    if header_budget_ms is not None:
        ends = min(ends, received + header_budget_ms / 1e3)
    return ends


def too_late(serving: Serving) -> ApiError:
    """Returns the error for a request whose budget is over, with the card's fallback, and counts it."""
    metrics.FALLBACKS.labels("deadline_exceeded").inc()
    return ApiError(
        "deadline_exceeded",
        "the budget is over; here is the policy's fallback",
        extra={"fallback": msgspec.to_builtins(serving.card.action.fallback)},
    )


def timing_ms(received: float, started: float, now: float, answered: BatchSlice) -> bytes:
    """Returns a JSON object with the milliseconds of waiting, of the forward, and in total."""
    return b'{"queue":%.4f,"inference":%.4f,"total":%.4f}' % (
        (started - received) * 1e3, answered.batch.actions.inference_ms, (now - received) * 1e3,
    )  # fmt: skip
