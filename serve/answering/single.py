"""Bytes of a request → bytes of an answer: the one path that every door to the server shares."""

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
    """An answer, and what it took.

    Attributes:
        answer: its bytes.
        started: when the forward began, by `time.perf_counter`.
        decode_s: decoding.
        inference_ms: the forward.
        rows: observations.
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
        endpoint: that it came through.
        serving: what drives.
        asked: the request.
        received: when its first byte was read, by `time.perf_counter`.
        header_budget_ms: X-Request-Budget-Ms; the smaller of it and the body's `budget_ms` counts.

    Raises:
        ApiError: the request is wrong, or its budget is over.
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
    """When an answer is too late, by `time.perf_counter`; for all that is known while None is decoded."""
    budget, ends = request.budget_ms if request is not None else None, float("inf")
    if budget is not None:
        ends = received + budget / 1e3
    if header_budget_ms is not None:
        ends = min(ends, received + header_budget_ms / 1e3)
    return ends


def too_late(serving: Serving) -> ApiError:
    """What a request gets whose budget is over: the card's fallback."""
    metrics.FALLBACKS.labels("deadline_exceeded").inc()
    return ApiError(
        "deadline_exceeded",
        "the budget is over; here is the policy's fallback",
        extra={"fallback": msgspec.to_builtins(serving.card.action.fallback)},
    )


def timing_ms(received: float, started: float, now: float, answered: BatchSlice) -> bytes:
    """A JSON object: what a request waited, its forward took, and all of it, milliseconds."""
    return b'{"queue":%.4f,"inference":%.4f,"total":%.4f}' % (
        (started - received) * 1e3, answered.batch.actions.inference_ms, (now - received) * 1e3,
    )  # fmt: skip
