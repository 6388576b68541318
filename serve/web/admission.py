"""What happens to every request before a route of the Flask app sees it: its head is parsed and its body read.

The event loop's worker has parsed the head already. Under gthread, or another WSGI server, the same parser gets the
head that the server read.
"""

from __future__ import annotations

import time
import uuid
from urllib.parse import quote

from flask import Response, g, request
from gunicorn.http.errors import ParseException

from serve.answering.endpoint import INFERENCE, body_limit
from serve.codecs.gzip_body import inflate
from serve.errors import ApiError
from serve.policy.slot import Slot
from serve.settings import Settings
from serve.wire.head import Head
from serve.wire.header_rules import READ_HEADERS
from serve.wire.parsed_head import ParsedHead, parse_head
from serve.wire.request import Request

UNFRAMED = "serve.unframed"
"""Key set in the WSGI environment of a request whose end is unknown, so that its connection must be closed."""
OWN_LISTENER = "serve.own_listener"
"""Key set in the WSGI environment of a request that came to this server's own listener: its Host is checked."""
WIRE_REQUEST = "serve.request"
"""Key in the WSGI environment: the `wire.request.Request` that came over the event loop, admitted there."""
LATEST_ACTIONS = "serve.latest_actions"
"""Key set in the WSGI environment: the LatestActions of the request's connection, where the server knows that."""
_ROUTES = {"infer": INFERENCE.route, "infer_version": INFERENCE.route}


def admit(settings: Settings, slot: Slot) -> Response | None:
    """Sets what `g` holds of a request: `parsed`, `request_id`, `received`, `body` and `latest_actions`.

    Returns the response to a browser's preflight, None for any other request.
    """
    wire: Request | None = request.environ.get(WIRE_REQUEST)
    g.latest_actions = request.environ.get(LATEST_ACTIONS)
    if wire is not None:
        g.parsed, g.request_id, g.received, g.body = wire.parsed, wire.request_id, wire.received, bytes(wire.body)
    else:
        g.received = time.perf_counter()
        is_checked = settings.allowed_hosts or OWN_LISTENER in request.environ
        g.parsed = parse_head(_head(), settings, lambda _: None, settings.hosts if is_checked else None)
        g.request_id = g.parsed.request_id or uuid.uuid4().hex
        g.body = _read_body(g.parsed, _limit(slot, settings))
    if g.parsed.refusal is not None:
        raise g.parsed.refusal.with_traceback(None)  # one that is raised often would grow
    if g.parsed.gzip:
        g.body = inflate(g.body, _limit(slot, settings))
    return _preflight() if g.parsed.is_preflight else None


def _limit(slot: Slot, settings: Settings) -> int:
    return body_limit(slot.every, g.parsed.endpoint, settings.max_body_bytes)


def _head() -> Head:
    """The head of a request as a WSGI server has read it; a body without a length is read to its end."""
    headers = {name.lower(): value for name, value in request.headers.items()}
    query = request.environ.get("QUERY_STRING", "")
    minor = 1 if request.environ.get("SERVER_PROTOCOL") == "HTTP/1.1" else 0
    path, length = quote(request.path), request.content_length
    return Head(
        request.method, f"{path}?{query}", path, query, headers, minor, keep_alive=True, length=length or 0,
        chunked=length is None, wants_continue=False,
    )  # fmt: skip


def route_of_request() -> str:
    """Returns the route's name in metrics."""
    return _ROUTES.get(request.url_rule.endpoint, request.url_rule.rule) if request.url_rule else "other"


def _check_framing(head: Head) -> None:
    """Refuses framing that gunicorn lets pass."""
    if head.headers.get("transfer-encoding", "chunked").lower() != "chunked":
        raise ApiError(
            "bad_request", "the length of the body is given in more than one way, or in a way that is not supported"
        )
    if head.minor and "host" not in head.headers:
        raise ApiError("bad_request", "the header Host is missing or invalid")


def _preflight() -> Response:
    response = Response(status=204)
    response.headers["Access-Control-Allow-Methods"] = "GET, POST"
    response.headers["Access-Control-Allow-Headers"] = READ_HEADERS
    response.headers["Access-Control-Max-Age"] = "600"
    return response


def _read_body(parsed: ParsedHead, limit: int) -> bytes:
    """Reads the whole body, also of a request that will be refused.

    gunicorn discards what is left unread, and with it the first bytes of the next request, which then waits forever.
    """
    try:
        body = _read_to_end(parsed.head, limit)
        _check_framing(parsed.head)
    except ApiError:
        request.environ[UNFRAMED] = True
        raise
    return body


def _read_to_end(head: Head, limit: int) -> bytes:
    if head.length > limit:
        raise ApiError("body_too_large", f"the body is larger than {limit} bytes")
    try:
        # Not through Flask, which silently truncates a chunked body at its limit.
        body: bytes = request.environ["wsgi.input"].read(limit + 1 if head.chunked else head.length)
    except (ParseException, OSError) as error:  # gunicorn's errors of chunked bodies are OSErrors
        raise ApiError("bad_request", "invalid chunked body, or too many chunks or trailers") from error
    if len(body) > limit:
        raise ApiError("body_too_large", f"the body is larger than {limit} bytes")
    if not head.chunked and len(body) != head.length:
        raise ApiError("bad_request", "the body ended before its Content-Length")
    return body
