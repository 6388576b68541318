"""Encodes whole responses: head and body."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable
from email.utils import formatdate
from http import HTTPStatus
from typing import Any

import msgspec

from serve.answering.endpoint import Answer
from serve.errors import ApiError
from serve.policy.serving import Serving

PHRASES = {status.value: status.phrase.encode() for status in HTTPStatus}


class ResponseWriter:
    """Encodes the responses of one worker; `second` is to be called once a second."""

    def __init__(self) -> None:
        self._id = secrets.token_hex(8) + "%012x"
        self._numbers = itertools.count()
        self._heads: dict[str, bytes] = {}
        self.second()

    def new_id(self) -> str:
        """Returns a unique id for a request that came without one."""
        return self._id % next(self._numbers)

    def second(self) -> None:
        """Updates the Date header."""
        self._date = formatdate(usegmt=True).encode()
        self._heads.clear()

    def success(self, serving: Serving, answer: Answer, request_id: str, keep_alive: bool, extra: bytes = b"") -> bytes:
        """Encodes a response with status 200 and the policy's actions."""
        head = self._heads.get(serving.digest)
        if head is None:
            head = self._heads[serving.digest] = b"HTTP/1.1 200 OK\r\nDate: %b\r\n%b" % (self._date, policy(serving))
        if answer.json_bytes is not None:
            extra += b"Inference-Header-Content-Length: %d\r\n" % answer.json_bytes
        if not keep_alive:
            extra += b"Connection: close\r\n"
        body = answer.body
        own = f"Content-Type: {answer.media_type}\r\nX-Request-Id: {request_id}\r\nContent-Length: {len(body)}\r\n"
        return b"".join((head, own.encode(), extra, b"\r\n", body))

    def error(
        self,
        error: ApiError,
        explain: Callable[[ApiError, str], dict[str, Any]],
        serving: Serving | None,
        request_id: str,
        keep_alive: bool,
        extra: bytes = b"",
        to_head: bool = False,
    ) -> bytes:
        """Encodes an error in the format of the endpoint; without its body for HEAD."""
        headers = b"Content-Type: application/json\r\nX-Request-Id: %b\r\n" % request_id.encode() + extra
        if serving is not None:
            headers += policy(serving)
        headers += "".join(f"{name}: {value}\r\n" for name, value in error.headers.items()).encode()
        body = msgspec.json.encode(explain(error, request_id))
        return self.raw(error.status, headers, b"" if to_head else body, keep_alive, len(body))

    def raw(self, status: int, headers: bytes, body: bytes, keep_alive: bool, length_of: int | None = None) -> bytes:
        """Encodes any response; `length_of` is the length of the body that a response to HEAD omits."""
        size = len(body) if length_of is None else length_of
        length = b"" if status in (204, 304) else b"Content-Length: %d\r\n" % size
        close = b"" if keep_alive else b"Connection: close\r\n"
        return b"HTTP/1.1 %d %b\r\nDate: %b\r\n%b%b%b\r\n%b" % (
            status, PHRASES.get(status, b""), self._date, headers, length, close, body,
        )  # fmt: skip


def policy(serving: Serving) -> bytes:
    """The headers that name the policy that answers."""
    return f"X-Policy-Version: {serving.version}\r\nX-Policy-Digest: {serving.digest}\r\n".encode()
