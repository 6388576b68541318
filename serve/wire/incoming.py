"""The request that is being read on a connection: the part of it that has come."""

from __future__ import annotations

import time
from enum import Enum, auto

from serve.codecs.options import Body
from serve.errors import ApiError
from serve.limits import MAX_HEAD_BYTES, MAX_HELD_BODIES, MAX_OWN_HEADS, SMALL_BODY_BYTES
from serve.wire.body import ChunkedBody, FixedBody
from serve.wire.large_body import LARGE_BYTES, LargeBody
from serve.wire.parsed_head import ParsedHead, comes_again
from serve.wire.request import Bounds


class State(Enum):
    """What a connection expects next."""

    HEAD = auto()
    """The head of a request, or the rest of it."""
    BODY = auto()
    """The rest of a body."""
    LARGE_BODY = auto()
    """The rest of a body that is received where it stays."""
    CLOSING = auto()
    """Nothing: what still comes is dropped."""


HEAD, BODY, LARGE_BODY, CLOSING = State  # read at every packet, and an Enum's attribute takes longer than a name


class IncomingRequest:
    """Puts the bytes of one request together, then those of the next.

    Attributes:
        state: what is expected next.
        rest: the beginning of a head, or what waits while nothing is read.
        skipped: whether an empty line came before the head that is being read.
        parsed: the head of the request whose body is being read, else None.
        body: what has come of that body, else None.
        since: when the first byte of the request came, by `time.perf_counter`.
        own_heads: the latest heads of this connection that name an episode, by their bytes. The cache that all
            connections share has none of those: each car would take a place in it.
    """

    __slots__ = ("_bounds", "_held", "body", "own_heads", "parsed", "rest", "since", "skipped", "state")

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self.state = HEAD
        self.rest = b""
        self.skipped = False
        self.parsed: ParsedHead | None = None
        self.body: FixedBody | LargeBody | ChunkedBody | None = None
        self.since = 0.0
        self.own_heads: dict[bytes, ParsedHead] = {}
        self._held = 0

    @property
    def has_begun(self) -> bool:
        """Whether a part of a request has come."""
        return self.body is not None or bool(self.rest)

    def read_head(self, data: bytes) -> bytes:
        """Takes a head off the data; `parsed` stays None until it is whole. Returns what is left of the data.

        Raises:
            ApiError: the head is malformed or too large.
        """
        if not self.rest:
            self.since = time.perf_counter()
        data, self.rest = self.rest + data, b""
        if data.startswith(b"\r\n") and not self.skipped:  # RFC 9112, 2.2: one empty line before a request is ignored
            data, self.skipped = data[2:], True
            if not data:
                return b""
        if data[:1] in (b"\r", b"\n") and (data != b"\r" or self.skipped):
            raise ApiError("bad_request", "the lines of the head must end in CRLF and must not be folded")
        end = data.find(b"\r\n\r\n") + 4
        if len(data if end == 3 else data[:end]) > MAX_HEAD_BYTES:
            raise ApiError("headers_too_large", f"the head is larger than {MAX_HEAD_BYTES} bytes")
        if end == 3:
            if data.count(b"\n") != data.count(b"\r\n"):
                raise ApiError("bad_request", "the lines of the head must end in CRLF and must not be folded")
            self.rest = data
            return b""
        self.parsed, self.skipped = self._parse(data[:end]), False
        return data[end:]

    def _parse(self, head: bytes) -> ParsedHead:
        parsed = self.own_heads.get(head)
        if parsed is None:
            parsed = self._bounds.head_parser.parse(head)
            if parsed.episode_id is not None and comes_again(head, parsed):
                if len(self.own_heads) >= MAX_OWN_HEADS:
                    self.own_heads.clear()
                self.own_heads[head] = parsed
        return parsed

    def expect_body(self) -> None:
        """Prepares for the body of the request whose head was read.

        Raises:
            ApiError: the request is refused whatever its body says, or the body is too large.
        """
        assert self.parsed is not None
        head = self.parsed.head
        if self.parsed.refusal is not None and (head.length or head.chunked):
            # The body would be read for nothing. An error that is raised often would grow by its traceback.
            raise self.parsed.refusal.with_traceback(None)
        limit = self._bounds.limit_of(self.parsed)
        if head.length > limit:
            raise ApiError("body_too_large", f"the body is larger than {limit} bytes")
        self.state = BODY
        if head.chunked:
            self.body = ChunkedBody(limit)
        else:
            self.body = (LargeBody if head.length >= LARGE_BYTES else FixedBody)(head.length)

    def hold(self, size: int) -> None:
        """Counts bytes of the body; raises ApiError when the bodies of all connections together are too large."""
        self._held += size
        self._bounds.held_bytes += size
        most = MAX_HELD_BODIES * self._bounds.max_body_bytes
        if self._held > SMALL_BODY_BYTES and self._bounds.held_bytes > most:
            raise ApiError("overloaded", "too many large requests at once; try again soon")

    def release(self) -> None:
        """Stops counting the body's bytes."""
        self._bounds.held_bytes -= self._held
        self._held = 0

    def take(self) -> tuple[ParsedHead, Body, float, int]:
        """Returns a complete request, and expects the next: its head, body, arrival, and the bytes that it holds."""
        assert self.parsed is not None
        assert self.body is not None
        parsed, body = self.parsed, self.body.whole()
        self.parsed, self.body, self.state = None, None, HEAD
        if len(body) <= SMALL_BODY_BYTES:
            self.release()
        held, self._held = self._held, 0
        return parsed, body, self.since, held

    def drop(self) -> None:
        """Drops what has come, and what still comes."""
        self.parsed, self.body, self.rest, self.state = None, None, b"", CLOSING
        self.release()
