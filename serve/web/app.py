"""The Flask app: every route of the server."""

from __future__ import annotations

import functools
import importlib.metadata
import logging
import threading
import time
from typing import Any

import msgspec
import numpy as np
from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException

from carla_mlflow import __version__
from carla_mlflow.build import git_sha
from serve.answering.endpoint import INFERENCE, INVOCATIONS, PREDICT, EncodedRequest, Endpoint, explainer
from serve.answering.prediction import Prediction, answer
from serve.errors import ApiError, from_core, from_status
from serve.policy.readiness import check_ready
from serve.policy.selection import find_serving
from serve.policy.serving import Serving
from serve.policy.slot import Slot
from serve.record.hook import RECORDERS
from serve.settings import Settings
from serve.telemetry import metrics
from serve.web.admission import admit, route_of_request
from serve.web.dashboard import add_dashboard
from serve.web.inference_routes import add_inference
from serve.web.initial_series import count_from_zero
from serve.web.metadata import describe, warnings_of
from serve.web.pages_routes import add_pages
from serve.web.webhook import Hook
from serve.wire.finish import finish, record_error
from serve.wire.header_rules import HOOK_PATH
from serve.wire.parsed_head import ParsedHead, extra_headers

log = logging.getLogger("serve")

_WARM_UP_ROWS = (1, 8, 32, 256)
_WARM_UP_CALLS, _WARM_UP_S = 50, 0.25
"""Most forward passes, and most seconds, for each number of rows; a number above 1 whose pass takes longer is skipped.

The parity check is limited to the same time."""


def create_app(settings: Settings, slot: Slot) -> Flask:
    """Builds the app, which serves the policies that are in the slot at the time of each request."""
    app = Flask("serve", static_folder=None)
    app.url_map.merge_slashes = False  # a path with // inside gets a 404, not a redirect to what Host says
    app.extensions.update(slot=slot, settings=settings)
    app.before_request(lambda: admit(settings, slot))
    app.after_request(lambda response: _finish(response, slot))
    app.register_error_handler(Exception, _explain)
    _add_predictions(app, slot)
    _add_probes(app, slot)
    _add_metadata(app, settings, slot)
    _add_metrics(app, slot)
    add_pages(app, slot, settings)
    add_dashboard(app, slot, settings)
    add_inference(app, slot, functools.partial(_predict, slot, INFERENCE))
    if settings.webhook_secret:
        _add_hook(app, Hook(settings.webhook_secret), slot)
    return app


def _finish(response: Response, slot: Slot) -> Response:
    response.headers["X-Request-Id"] = g.request_id
    prediction, parsed = g.get("prediction"), g.get("parsed")
    serving = prediction.serving if prediction else g.get("serving") or slot.serving
    if serving:
        response.headers["X-Policy-Version"] = serving.version
        response.headers["X-Policy-Digest"] = serving.digest
    episode_id = (prediction or parsed).episode_id if prediction or parsed else None
    for line in extra_headers(parsed, episode_id).decode().splitlines():
        name, _, value = line.partition(": ")
        response.headers[name] = value
    version = serving.version if serving else ""
    answered = g.get("answered")
    if episode_id is not None and g.latest_actions is not None:
        pedals = answered.answered.pedals(answered.serving.columns) if answered else None  # an error has no action
        g.latest_actions.count_change(episode_id, version, pedals)
    finish(g, route_of_request(), response.status_code, version, answered, episode_id)
    if RECORDERS and answered is None:
        record_error(g, response.status_code, serving, prediction, episode_id)
    return response


def _explain(error: Exception) -> Response:
    known = from_status(error.code or 500) if isinstance(error, HTTPException) else from_core(error)
    if known.code == "internal":
        log.error("request %s failed", g.request_id, exc_info=error, extra={"request_id": g.request_id})
    body = explainer(request.path)(known, g.request_id)
    response = _json(msgspec.json.encode(body), known.status)
    response.headers.update(known.headers)
    if isinstance(error, HTTPException) and known.code == "method_not_allowed":
        response.headers["Allow"] = ", ".join(sorted(getattr(error, "valid_methods", None) or ()))
    return response


def _json(body: bytes, status: int = 200) -> Response:
    return Response(body, status, content_type="application/json")


def _ready(slot: Slot) -> Serving:
    serving = slot.serving
    if serving is None:
        raise ApiError("not_ready", slot.reason)
    g.serving = serving
    return serving


def _add_predictions(app: Flask, slot: Slot) -> None:
    for endpoint in (PREDICT, INVOCATIONS):
        app.add_url_rule(endpoint.route, endpoint.route, functools.partial(_predict, slot, endpoint), methods=["POST"])


def _predict(slot: Slot, endpoint: Endpoint, **_of_path: str) -> Response:
    parsed: ParsedHead = g.parsed  # it has the version and the name, too
    if parsed.endpoint is not endpoint:  # else the active policy would answer for another
        raise from_status(404)
    g.serving = serving = find_serving(slot, parsed.asked, may_go_on=True)
    encoded = EncodedRequest(
        g.body, parsed.media_type, parsed.json_bytes, episode_id=parsed.episode_id, asked=parsed.asked
    )
    g.prediction = prediction = Prediction(endpoint, serving, slot, encoded, g.received, parsed.budget_ms)
    made = answer(prediction)
    g.answered = prediction
    response = Response(made.body, content_type=made.media_type)
    if made.json_bytes is not None:
        response.headers["Inference-Header-Content-Length"] = str(made.json_bytes)
    return response


def _add_probes(app: Flask, slot: Slot) -> None:
    @app.get("/healthz")
    def healthz() -> dict[str, Any]:
        return {"status": "alive", "service_version": __version__, "git_sha": git_sha()}

    @app.get("/readyz")
    def readyz() -> dict[str, Any]:
        _ready(slot)
        check_ready(slot)
        if slot.draining:
            raise ApiError("not_ready", "stopping")
        return {"ready": True, "warnings": warnings_of(slot)}

    @app.get("/ping")
    @app.get("/health")
    def ping() -> Response:
        _ready(slot)
        check_ready(slot)
        return _json(b"\n")

    @app.get("/version")
    def version() -> Response:
        return Response(importlib.metadata.version("mlflow-skinny"), content_type="text/html; charset=utf-8")


def _add_metadata(app: Flask, settings: Settings, slot: Slot) -> None:
    warming = threading.Lock()

    @app.get("/metadata")
    def metadata() -> Response:
        serving = _ready(slot)
        body = {**describe(serving, slot, settings), "last_minute": metrics.last_minute(serving.columns)}
        return _json(msgspec.json.encode(body))

    @app.post("/warmup")
    def warmup() -> Response:
        serving = _ready(slot)
        if not warming.acquire(blocking=False):
            raise ApiError("overloaded", "another warm-up is running")
        try:
            times, most_ms = serving.forward_times, _WARM_UP_S * 1e3
            serving.engine.verify_parity(times.rows_within(most_ms))
            fast = [rows for rows in _WARM_UP_ROWS if rows == 1 or times.ms(rows) <= most_ms]
            timings = {str(rows): _timing(serving, rows) for rows in fast}
        finally:
            warming.release()
        body = {"version": serving.version, "digest": serving.digest, "timings_ms": timings}
        return _json(msgspec.json.encode(body))


def _add_metrics(app: Flask, slot: Slot) -> None:
    @app.get("/metrics")
    def metrics_page() -> Response:
        last = request.args.get("last")
        if last not in (None, "30m"):
            raise ApiError("bad_request", "expected last=30m, or nothing for all since the server started", "last")
        count_from_zero(slot)
        return Response(metrics.render(slot.folder, last is not None), content_type=metrics.CONTENT_TYPE)


def _add_hook(app: Flask, hook: Hook, slot: Slot) -> None:
    @app.post(HOOK_PATH)
    def receive_hook() -> dict[str, Any]:
        if hook.is_news(request.headers, g.body):
            slot.poll_now()
        return {}


def _timing(serving: Serving, rows: int) -> dict[str, float]:
    ends, timings = time.monotonic() + _WARM_UP_S, serving.engine.warm_up(rows, 1)
    while len(timings) < _WARM_UP_CALLS and time.monotonic() < ends:
        timings += serving.engine.warm_up(rows, 1)
    return {f"p{q}": round(float(np.percentile(timings, q)), 4) for q in (50, 99)}
