"""The rules for a request's headers, and the errors for breaking them."""

from __future__ import annotations

import hmac
import ipaddress
import re
from urllib.parse import unquote

from serve.answering.endpoint import Endpoint
from serve.errors import ApiError
from serve.settings import Settings
from serve.wire.head import Head

OPEN_PATHS = ("/healthz", "/readyz", "/ping", "/health", "/v2/health/live", "/v2/health/ready")
"""Paths that need no API key, since probes have none."""


PAGES, PAGE_FILES = ("/", "/docs"), "/pages/"
"""The static pages, and where their files lie. They need no API key: what they show, they ask for with the key that is
typed into them."""


METRICS_PATH = "/metrics"


HOOK_PATH = "/hooks/mlflow"
"""Needs no API key: its deliveries are signed."""


READ_HEADERS = (
    "Content-Type, Content-Encoding, Authorization, Inference-Header-Content-Length, "
    "X-Request-Id, X-Request-Budget-Ms, X-Episode-Id, X-Episode-Digest, traceparent, tracestate"
)
"""The request headers that a page of a configured origin may send."""


EXPOSED_HEADERS = (
    "X-Request-Id, X-Episode-Id, X-Policy-Version, X-Policy-Digest, Inference-Header-Content-Length, Retry-After"
)
"""The response headers that such a page may read."""


_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


_TRACE = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


_BUDGET = re.compile(r"\d{1,9}(\.\d{1,9})?", re.ASCII)


_PORT = re.compile(r":\d*$", re.ASCII)


_LENGTH = re.compile(r"\d{1,12}", re.ASCII)


def cors_headers(origin: str, settings: Settings) -> bytes:
    """Returns the headers that let the pages of a configured origin read a response; none for another origin."""
    if origin not in settings.origins:
        return b""
    return (
        f"Access-Control-Allow-Origin: {origin}\r\nAccess-Control-Expose-Headers: {EXPOSED_HEADERS}\r\nVary: Origin\r\n"
    ).encode()


def check_host(path: str, given: str, allowed: frozenset[str] | None) -> None:
    """Raises ApiError when Host names another server. A request without Host passes: browsers always send one.

    /metrics may be requested by any IP address: the addresses of pods can't be listed beforehand, and DNS rebinding
    needs a name.
    """
    name = _PORT.sub("", given).rstrip(".").lower()
    if allowed is not None and name and name not in allowed and path not in OPEN_PATHS:
        if path == METRICS_PATH and _is_address(name):
            return
        raise ApiError(
            "host_not_allowed",
            "this server does not answer to that host name; --allowed-hosts lists the names it answers to",
        )


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def check_key(path: str, given: str, settings: Settings) -> None:
    """Raises ApiError when a path needs the server's key and Authorization does not carry it."""
    if path in (*OPEN_PATHS, *PAGES) or path.startswith(PAGE_FILES) or (settings.webhook_secret and path == HOOK_PATH):
        return
    scheme, _, token = given.partition(" ")
    fits = hmac.compare_digest(token.strip().encode("utf-8", "replace"), settings.api_key.encode())
    if not (fits and scheme.lower() == "bearer"):
        raise ApiError("unauthorized", "expected Authorization: Bearer and this server's POLICY_API_KEY")


def check_media_type(text: str, endpoint: Endpoint) -> str:
    """Returns the media type of a body, in lower case; raises ApiError when the endpoint does not accept it."""
    media_type, *parameters = (part.strip().lower() for part in text.split(";"))
    charsets = [value.strip('"') for key, _, value in (p.partition("=") for p in parameters) if key == "charset"]
    if media_type not in endpoint.media_types or set(charsets) - {"utf-8", "us-ascii"}:
        raise ApiError("unsupported_media_type", f"expected Content-Type: {' or '.join(endpoint.media_types)}")
    return media_type


def check_encoding(text: str) -> bool:
    """Whether a body is compressed; raises ApiError for any coding except gzip, and for more than one."""
    if text.lower() in ("", "identity"):
        return False
    if text.lower() in ("gzip", "x-gzip"):
        return True
    raise ApiError("unsupported_media_type", "expected Content-Encoding: gzip, or none")


def read_budget(text: str | None) -> float | None:
    """Reads X-Request-Budget-Ms; raises ApiError when it is not a number."""
    if text is not None and not _BUDGET.fullmatch(text):
        raise ApiError("bad_request", "expected a number of milliseconds", "X-Request-Budget-Ms")
    return None if text is None else float(text)


def read_json_bytes(text: str | None) -> int | None:
    """Reads Inference-Header-Content-Length; raises ApiError when it is not a number."""
    if text is not None and not _LENGTH.fullmatch(text):
        raise ApiError("bad_request", "expected a number of bytes", "Inference-Header-Content-Length")
    return None if text is None else int(text)


def read_request_id(headers: dict[str, str]) -> str | None:
    """Returns X-Request-Id, or the trace id of a W3C traceparent; None where neither is present and valid."""
    given = headers.get("x-request-id", "")
    if _REQUEST_ID.fullmatch(given):
        return given
    trace = _TRACE.fullmatch(headers.get("traceparent", ""))
    return trace[1] if trace else None


def episode_header(episode_id: str) -> bytes:
    """Returns the line of a response's head that names the episode."""
    return b"X-Episode-Id: %b\r\n" % episode_id.encode()


def decoded_path(head: Head) -> str:
    """Returns the path as the Flask app expects it: percent-decoded, bytes as latin-1."""
    return unquote(head.path, encoding="latin-1")
