"""What a head asks for, worked out once: cars send the same head over and over."""

from __future__ import annotations

import hmac
import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote

from serve.answering.endpoint import INFERENCE, INVOCATIONS, PREDICT, Door, explainer
from serve.errors import ApiError
from serve.settings import Settings
from serve.wire.head import Head, read_head

MOST_REMEMBERED, LONGEST_REMEMBERED = 1024, 1024
"""Heads, and bytes of each."""
OPEN_PATHS = ("/healthz", "/readyz", "/ping", "/health", "/v2/health/live", "/v2/health/ready")
"""Answered without POLICY_API_KEY: whoever probes a server has none."""
METRICS_PATH = "/metrics"
HOOK_PATH = "/hooks/mlflow"
"""Its key is the signature of what is delivered."""
READ_HEADERS = (
    "Content-Type, Content-Encoding, Authorization, Inference-Header-Content-Length, "
    "X-Request-Id, X-Request-Budget-Ms, traceparent, tracestate"
)
"""Of a request: what a page of a configured origin may send."""
EXPOSED_HEADERS = "X-Request-Id, X-Policy-Version, X-Policy-Digest, Inference-Header-Content-Length, Retry-After"
"""Of an answer: what it may read."""

INFER_PATH = re.compile(
    r"/v2/models/(?P<name>[A-Za-z0-9._-]{1,128})(/versions/(?P<version>[A-Za-z0-9.+-]{1,128}))?/infer", re.ASCII
)
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_TRACE = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_BUDGET = re.compile(r"\d{1,9}(\.\d{1,9})?", re.ASCII)
_PORT = re.compile(r":\d*$", re.ASCII)
_LENGTH = re.compile(r"\d{1,12}", re.ASCII)

RefuseUnknown = Callable[[Head], ApiError | None]
"""Why a path that is no prediction's is refused whatever else is asked; None where it is the app's to answer."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A head, and what follows from it.

    Attributes:
        head: as it was read.
        door: for a prediction; None for everything that the Flask app answers.
        refusal: why it is refused whatever its body says.
        version: that it asks for; None for what drives.
        name: of the policy that it asks for; None where the path names none.
        media_type: of the body, in lower case.
        gzip: whether the body is compressed.
        json_bytes: of the body, where tensors follow.
        request_id: that the client gave, or None.
        budget_ms: that the client gave in a header, or the server's own.
        extra: headers that every answer carries.
    """

    head: Head
    door: Door | None
    refusal: ApiError | None
    version: str | None = None
    name: str | None = None
    media_type: str = ""
    gzip: bool = False
    json_bytes: int | None = None
    request_id: str | None = None
    budget_ms: float | None = None
    extra: bytes = b""

    def explain(self, error: ApiError, request_id: str) -> dict[str, Any]:
        """The body of an error, in the shape of what was asked for."""
        return (self.door.explain if self.door else explainer(unquote(self.head.path)))(error, request_id)


class Planner:
    """Reads heads, and remembers those that it has seen: the same bytes mean the same."""

    def __init__(self, settings: Settings, refuse_unknown: RefuseUnknown) -> None:
        self._settings, self._refuse_unknown = settings, refuse_unknown
        self._known: dict[bytes, Plan] = {}
        self.known = self._known.get

    def plan(self, data: bytes) -> Plan:
        """Reads a whole head.

        Raises:
            ApiError: it is not framed as HTTP says; the connection can't go on.
        """
        found = self._known.get(data)
        if found is not None:
            return found
        planned = make_plan(read_head(data), self._settings, self._refuse_unknown)
        if len(data) <= LONGEST_REMEMBERED and planned.request_id is None:
            if len(self._known) >= MOST_REMEMBERED:
                self._known.clear()
            self._known[data] = planned
        return planned


def make_plan(head: Head, settings: Settings, refuse_unknown: RefuseUnknown) -> Plan:
    """Works out what a head asks for."""
    door, version, name = _door(head)
    request_id = read_request_id(head.headers)
    extra = cors_headers(head.headers.get("origin", ""), settings)
    try:
        check_host(head.path, head.headers.get("host", ""), settings.hosts)
        if settings.api_key and not (head.method == "OPTIONS" and extra):  # a preflight carries no key
            check_key(head.path, head.headers.get("authorization", ""), settings)
        if head.length > settings.max_body_bytes:
            raise ApiError("body_too_large", f"at most {settings.max_body_bytes} bytes")
        media_type, budgets = "", [settings.budget_ms] if settings.budget_ms else []
        if door is not None:
            media_type = check_media_type(head.headers.get("content-type", ""), door)
            given = read_budget(head.headers.get("x-request-budget-ms"))
            budgets += [] if given is None else [given]
        gzip = check_encoding(head.headers.get("content-encoding", ""))
        json_bytes = read_json_bytes(head.headers.get("inference-header-content-length"))
        missing = None if door else refuse_unknown(head)
        if missing is not None:
            raise missing
    except ApiError as refusal:
        return Plan(head, door, refusal, request_id=request_id, extra=extra)
    budget = min(budgets, default=None)
    return Plan(head, door, None, version, name, media_type, gzip, json_bytes, request_id, budget, extra)


def _door(head: Head) -> tuple[Door | None, str | None, str | None]:
    if head.method != "POST":
        return None, None, None
    path = unquote(head.path)  # as Flask reads it: no other spelling may lead a prediction past the turn
    inference = INFER_PATH.fullmatch(path)
    if inference is not None:
        return INFERENCE, inference["version"], inference["name"]
    door = {"/predict": PREDICT, "/invocations": INVOCATIONS}.get(path)
    if door is None:
        return None, None, None
    versions = [value for key, value in parse_qsl(head.query, keep_blank_values=True) if key == "version"]
    return door, versions[0] if versions else None, None


def cors_headers(origin: str, settings: Settings) -> bytes:
    """What lets the pages of an origin read an answer, for origins that are configured."""
    if origin not in settings.origins:
        return b""
    return (
        f"Access-Control-Allow-Origin: {origin}\r\nAccess-Control-Expose-Headers: {EXPOSED_HEADERS}\r\nVary: Origin\r\n"
    ).encode()


def check_host(path: str, given: str, allowed: frozenset[str] | None) -> None:
    """Raises ApiError when Host names another server. Who names none is no browser.

    Metrics are asked of a pod by its address, which nobody can list beforehand, and DNS rebinding comes by a name.
    """
    name = _PORT.sub("", given).rstrip(".").lower()
    if allowed is not None and name and name not in allowed and path not in OPEN_PATHS:
        if path == METRICS_PATH and _is_address(name):
            return
        raise ApiError("host_not_allowed", "this server has another name; --allowed-hosts says which it hears")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def check_key(path: str, given: str, settings: Settings) -> None:
    """Raises ApiError when a path needs the server's key and Authorization does not bring it."""
    if path in OPEN_PATHS or (settings.webhook_secret and path == HOOK_PATH):
        return
    scheme, _, token = given.partition(" ")
    fits = hmac.compare_digest(token.strip().encode("utf-8", "replace"), settings.api_key.encode())
    if not (fits and scheme.lower() == "bearer"):
        raise ApiError("unauthorized", "expected Authorization: Bearer and this server's key")


def check_media_type(text: str, door: Door) -> str:
    """The media type of a body, in lower case; raises ApiError when the door does not take it."""
    media_type, *parameters = (part.strip().lower() for part in text.split(";"))
    charsets = [value.strip('"') for key, _, value in (p.partition("=") for p in parameters) if key == "charset"]
    if media_type not in door.media_types or set(charsets) - {"utf-8", "us-ascii"}:
        raise ApiError("unsupported_media_type", f"expected Content-Type: {' or '.join(door.media_types)}")
    return media_type


def check_encoding(text: str) -> bool:
    """Whether a body is compressed; raises ApiError for every coding but gzip, and for two of them."""
    if text.lower() in ("", "identity"):
        return False
    if text.lower() in ("gzip", "x-gzip"):
        return True
    raise ApiError("unsupported_media_type", "expected Content-Encoding: gzip, or none")


def read_budget(text: str | None) -> float | None:
    """X-Request-Budget-Ms; raises ApiError when it is no number."""
    if text is not None and not _BUDGET.fullmatch(text):
        raise ApiError("bad_request", "expected a number of milliseconds", "X-Request-Budget-Ms")
    return None if text is None else float(text)


def read_json_bytes(text: str | None) -> int | None:
    """Inference-Header-Content-Length; raises ApiError when it is no number."""
    if text is not None and not _LENGTH.fullmatch(text):
        raise ApiError("bad_request", "expected a number of bytes", "Inference-Header-Content-Length")
    return None if text is None else int(text)


def read_request_id(headers: dict[str, str]) -> str | None:
    """X-Request-Id, or the trace id of a W3C traceparent; None where there is none that a log can hold."""
    given = headers.get("x-request-id", "")
    if _REQUEST_ID.fullmatch(given):
        return given
    trace = _TRACE.fullmatch(headers.get("traceparent", ""))
    return trace[1] if trace else None


def decoded_path(head: Head) -> str:
    """The path as the Flask app wants it: percent-decoded, bytes as latin-1."""
    return unquote(head.path, encoding="latin-1")
