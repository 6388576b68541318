"""Bytes of a request → bytes of an answer: the one path that every door to the server shares."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from carla_mlflow.actions import Actions
from carla_mlflow.errors import ActionError
from serve import metrics
from serve.codecs.carla import PredictRequest
from serve.errors import ApiError
from serve.slot import Serving


def answer_predict(serving: Serving, body: bytes, received: float, header_budget_ms: float | None) -> bytes:
    """POST /predict.

    Args:
        serving: what drives.
        body: of the request.
        received: when its first byte was read, by `time.perf_counter`.
        header_budget_ms: X-Request-Budget-Ms; the smaller of it and the body's `budget_ms` counts.

    Raises:
        ApiError: the request is wrong, or its budget is over.
        SpecError: an observation does not fit.
    """
    request = serving.predict.decode(body)
    _check_budget(serving, request, received, header_budget_ms)
    actions, started = _act(serving, request)
    now = time.perf_counter()
    timing = {
        "queue": round((started - received) * 1e3, 4),
        "inference": round(actions.inference_ms, 4),
        "total": round((now - received) * 1e3, 4),
    }
    return serving.predict.encode(actions, request, serving.version, serving.digest, timing)


def answer_invocations(serving: Serving, body: bytes, is_csv: bool) -> bytes:
    """POST /invocations; raises as `answer_predict`."""
    decode: Callable[[bytes], PredictRequest] = serving.scoring.decode_csv if is_csv else serving.scoring.decode_json
    actions, _ = _act(serving, decode(body))
    return serving.scoring.encode(actions)


def _act(serving: Serving, request: PredictRequest) -> tuple[Actions, float]:
    started = time.perf_counter()
    try:
        actions = serving.act(request.observations, request.deterministic, request.seed)
    except ActionError:
        metrics.UNUSABLE.labels(serving.version).inc()
        raise
    metrics.ACTIONS.labels(serving.version).inc(len(actions.control))
    metrics.count_cache(serving)
    return actions, started


def _check_budget(serving: Serving, request: PredictRequest, received: float, header_budget_ms: float | None) -> None:
    budgets = [budget for budget in (request.budget_ms, header_budget_ms) if budget is not None]
    if budgets and (time.perf_counter() - received) * 1e3 >= min(budgets):
        raise ApiError(
            "deadline_exceeded",
            "the budget was over before the policy was asked; here is its fallback",
            extra={"fallback": msgspec.to_builtins(serving.card.action.fallback)},
        )
