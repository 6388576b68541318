"""The body of a request, of known length or in chunks. Both classes hand back bytes that follow the body."""

from __future__ import annotations

import re

from serve.errors import ApiError
from serve.limits import FREE_CHUNKS, MAX_CHUNK_LINE, MAX_TRAILERS, MIN_CHUNK

_BROKEN = ApiError("bad_request", "invalid chunked body, or too many chunks or trailers")
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\x00-\x08\x0a-\x1f\x7f]*)?")


class FixedBody:
    """A body of a known length."""

    def __init__(self, length: int) -> None:
        self._left = length
        self._parts: list[bytes] = []

    def feed(self, data: bytes) -> bytes | None:
        """Takes received bytes; returns those left over when the body is whole, else None."""
        if len(data) >= self._left:
            self._parts.append(data[: self._left])
            rest, self._left = data[self._left :], 0
            return rest
        self._parts.append(data)
        self._left -= len(data)
        return None

    def whole(self) -> bytes:
        """The body."""
        return self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)


class ChunkedBody:
    """A body in chunks, of at most `limit` bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = self._lines = self._trailers = 0
        self._left: int | None = None  # bytes of this chunk still to come; None before its size line
        self._ended = False  # the last chunk's line was read: trailers follow
        self._line = b""

    def feed(self, data: bytes) -> bytes | None:
        """As `FixedBody.feed`.

        Raises:
            ApiError: bad_request: the chunks are malformed; body_too_large.
        """
        data, self._line = self._line + data, b""
        at = 0
        while True:
            if self._left is not None:
                taken = min(self._left, len(data) - at)
                if taken:
                    self._parts.append(data[at : at + taken])
                at, self._left = at + taken, self._left - taken
                if self._left or len(data) - at < 2:
                    return self._wait(data[at:])
                if data[at : at + 2] != b"\r\n":
                    raise ApiError("bad_request", "a chunk is longer than it says")
                at, self._left = at + 2, None
            end = data.find(b"\n", at)
            if end < 0:
                return self._wait(data[at:])
            line, at = data[at : end + 1], end + 1
            if self._ended and line == b"\r\n":
                return data[at:]
            self._read_line(line)

    def _wait(self, rest: bytes) -> bytes | None:
        if len(rest) > MAX_CHUNK_LINE:
            raise _BROKEN.with_traceback(None)  # shared: else its traceback grows with each raise
        self._line = rest
        return None

    def _read_line(self, line: bytes) -> None:
        """Reads the size line before a chunk, or skips a trailer, which is not used."""
        self._lines += 1
        self._trailers += self._ended
        too_many = self._lines > FREE_CHUNKS + self._size // MIN_CHUNK or self._trailers > MAX_TRAILERS
        if len(line) > MAX_CHUNK_LINE or too_many or not line.endswith(b"\r\n"):
            raise _BROKEN.with_traceback(None)  # shared: else its traceback grows with each raise
        if not self._ended:
            self._begin_chunk(line[:-2])

    def _begin_chunk(self, line: bytes) -> None:
        found = _SIZE.fullmatch(line)
        if found is None:
            raise _BROKEN.with_traceback(None)  # shared: else its traceback grows with each raise
        size = int(found[1], 16)
        self._size += size
        if self._size > self._limit:
            raise ApiError("body_too_large", f"the body is larger than {self._limit} bytes")
        self._ended, self._left = size == 0, size or None

    def whole(self) -> bytes:
        """The body."""
        return b"".join(self._parts)
