"""The head of a request: read by httptools, and refused if the standard allows more than one reading of it.

If a proxy and a server read one head differently, an attacker can exploit that (request smuggling). So these are
refused: two lengths, a length beside a transfer coding, bare line feeds, folded lines.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass

import httptools

from serve.errors import ApiError
from serve.limits import MAX_HEADERS

_ONCE = ("host", "content-length", "transfer-encoding", "content-type", "content-encoding", "authorization", "expect")
_LENGTH = re.compile(r"\d{1,18}", re.ASCII)
_HOST = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=%:\[\]-]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a request.

    Attributes:
        method: such as POST.
        target: as received, ASCII.
        path: of the target, percent-encoded as received.
        query: the part after `?`.
        headers: names in lower case; the values of a repeated name are joined by commas.
        minor: 1 for HTTP/1.1, 0 for HTTP/1.0.
        keep_alive: whether the client wants to keep the connection open.
        length: bytes of the body; 0 where there is none or it comes in chunks.
        chunked: whether the body comes in chunks.
        wants_continue: whether the client waits for `100 Continue`.
    """

    method: str
    target: str
    path: str
    query: str
    headers: dict[str, str]
    minor: int
    keep_alive: bool
    length: int
    chunked: bool
    wants_continue: bool


class _Collector:
    """Collects the parts of a head; httptools calls its methods."""

    def __init__(self) -> None:
        self.target = b""
        self.headers: list[tuple[bytes, bytes]] = []

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))


def read_head(data: bytes) -> Head:
    """Reads a whole head, from the request line to the empty line.

    Raises:
        ApiError: bad_request or headers_too_large.
    """
    lines = data.count(b"\r\n")
    if data.count(b"\n") != lines or data.count(b"\r") != lines or b"\r\n " in data or b"\r\n\t" in data:
        raise ApiError("bad_request", "the lines of the head must end in CRLF and must not be folded")
    if lines - 2 > MAX_HEADERS:
        raise ApiError("headers_too_large", f"more than {MAX_HEADERS} headers")
    found = _Collector()
    parser = httptools.HttpRequestParser(found)
    try:
        with contextlib.suppress(httptools.HttpParserUpgrade):  # an offer that may be ignored: the head is complete
            parser.feed_data(data)
        version, method = parser.get_http_version(), parser.get_method().decode("ascii")
        target = found.target.decode("ascii")
    except (httptools.HttpParserError, UnicodeDecodeError) as error:
        raise ApiError("bad_request", "malformed HTTP") from error
    if version not in ("1.0", "1.1"):
        raise ApiError("bad_request", "only HTTP/1.1 and HTTP/1.0 are spoken here")
    return _checked(method, target, _headers(found.headers), int(version[-1]))


def _headers(pairs: list[tuple[bytes, bytes]]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for raw_name, raw_value in pairs:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1").strip(" \t")
        if name in headers:
            if name in _ONCE:
                raise ApiError("bad_request", f"duplicate header {name}")
            value = f"{headers[name]}, {value}"
        headers[name] = value
    return headers


def _checked(method: str, target: str, headers: dict[str, str], minor: int) -> Head:
    host = headers.get("host")
    if (host is None and minor) or not _HOST.fullmatch(host or ""):
        raise ApiError("bad_request", "the header Host is missing or invalid")
    if not target.startswith("/"):
        raise ApiError("bad_request", "the request target is not a path")
    coding, length = headers.get("transfer-encoding"), headers.get("content-length")
    if coding is not None and (length is not None or coding.lower() != "chunked" or not minor):
        raise ApiError(
            "bad_request", "the length of the body is given in more than one way, or in a way that is not supported"
        )
    if length is not None and not _LENGTH.fullmatch(length):
        raise ApiError("bad_request", "Content-Length is not a number")
    path, _, query = target.partition("?")
    wishes = [word.strip() for word in headers.get("connection", "").lower().split(",")]
    keep_alive = bool(minor) and "close" not in wishes  # HTTP/1.0 has no keep-alive that every proxy understands
    wants_continue = headers.get("expect", "").lower() == "100-continue" and bool(minor)
    return Head(
        method, target, path, query, headers, minor, keep_alive, int(length or 0), coding is not None, wants_continue
    )
