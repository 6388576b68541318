"""Checks every request before a route of the Flask app sees it: framing, size, host, key, content coding.

The event loop's worker has already made these checks; under gthread they are made only here.
"""

from __future__ import annotations

import time
import uuid

from flask import Response, g, request
from gunicorn.http.errors import ParseException

from serve.answering.endpoint import INFERENCE, INVOCATIONS, PREDICT, body_limit
from serve.codecs.gzip_body import inflate
from serve.errors import ApiError
from serve.policy.slot import Slot
from serve.settings import Settings
from serve.wire.header_rules import READ_HEADERS, check_encoding, check_host, check_key, read_request_id

UNFRAMED = "serve.unframed"
"""Key set in the WSGI environment of a request whose end is unknown, so that its connection must be closed."""
HOST_IS_OURS = "serve.host"
"""Key in the WSGI environment: False if Host is already checked, True if it came to this server's own listener."""
PREDICTIONS = (PREDICT.route, INVOCATIONS.route, INFERENCE.route)
_ROUTES = {"infer": INFERENCE.route, "infer_version": INFERENCE.route}


def admit(settings: Settings, slot: Slot) -> Response | None:
    """Reads the body into `g.body`; returns the response to a browser's preflight, None for any other request."""
    g.received = time.perf_counter()
    headers = {name.lower(): value for name, value in request.headers.items()}
    g.request_id = read_request_id(headers) or uuid.uuid4().hex
    try:
        limit = _limit(settings, slot)
        g.body = _read_body(limit)
        _check_framing(headers)
    except ApiError:
        request.environ[UNFRAMED] = True
        raise
    if request.environ.get(HOST_IS_OURS, bool(settings.allowed_hosts)):
        check_host(request.path, headers.get("host", ""), settings.hosts)
    preflight = request.method == "OPTIONS" and headers.get("origin", "") in settings.origins
    if settings.api_key and not preflight:
        check_key(request.path, headers.get("authorization", ""), settings)
    if check_encoding(headers.get("content-encoding", "")):
        g.body = inflate(g.body, limit)
    return _preflight() if preflight else None


def _limit(settings: Settings, slot: Slot) -> int:
    endpoints = {endpoint.route: endpoint for endpoint in (PREDICT, INVOCATIONS, INFERENCE)}
    return body_limit(slot.servings, endpoints.get(route_of_request()), settings.max_body_bytes)


def route_of_request() -> str:
    """Returns the route's name in metrics."""
    return _ROUTES.get(request.url_rule.endpoint, request.url_rule.rule) if request.url_rule else "other"


def _check_framing(headers: dict[str, str]) -> None:
    """Refuses framing that gunicorn lets pass."""
    if headers.get("transfer-encoding", "chunked").lower() != "chunked":
        raise ApiError(
            "bad_request", "the length of the body is given in more than one way, or in a way that is not supported"
        )
    if "host" not in headers and request.environ.get("SERVER_PROTOCOL") == "HTTP/1.1":
        raise ApiError("bad_request", "the header Host is missing or invalid")


def _preflight() -> Response:
    response = Response(status=204)
    response.headers["Access-Control-Allow-Methods"] = "GET, POST"
    response.headers["Access-Control-Allow-Headers"] = READ_HEADERS
    response.headers["Access-Control-Max-Age"] = "600"
    return response


def _read_body(limit: int) -> bytes:
    """Reads the whole body, also of a request that will be refused.

    gunicorn discards what is left unread, and with it the first bytes of the next request, which then waits forever.
    """
    length = request.content_length
    if length is not None and length > limit:
        raise ApiError("body_too_large", f"at most {limit} bytes")
    try:
        # Not through Flask, which silently truncates a chunked body at its limit.
        body: bytes = request.environ["wsgi.input"].read(limit + 1 if length is None else length)
    except (ParseException, OSError) as error:  # gunicorn's errors of chunked bodies are OSErrors
        raise ApiError("bad_request", "the body is not framed as HTTP says") from error
    if len(body) > limit:
        raise ApiError("body_too_large", f"at most {limit} bytes")
    if length is not None and len(body) != length:
        raise ApiError("bad_request", "the body ended before its Content-Length")
    return body
