"""One connection: reads requests from its bytes, and writes the responses in the order of the requests."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections import deque
from enum import Enum, auto
from typing import cast

from serve.codecs.options import Body
from serve.errors import ApiError
from serve.wire.body import ChunkedBody, FixedBody
from serve.wire.flow_control import FlowControl
from serve.wire.head import MAX_BYTES
from serve.wire.large_body import LARGE_BYTES, BodyReceiver, LargeBody
from serve.wire.parsed_head import ParsedHead
from serve.wire.request import Receiver, Request

MAX_PIPELINED = 64
"""Requests of one connection that may wait for responses; further ones are read when some have been answered."""
MAX_PER_TURN = 8
"""Requests that are read from one connection before other connections are served."""
REST_S = 0.05
"""How long requests wait that were sent behind one that found the server full, seconds: a client that pipelines fifty
gets the first refusal at once, and the others do not cost other clients time."""
SMALL_BYTES = 16 * 1024
MAX_HELD = 4
"""How many bodies of the largest size may be in memory at once, from their first byte to their response. Bodies
of up to SMALL_BYTES are not counted."""
KEEP_ALIVE_S = 75.0
"""How long an idle connection stays open."""
LINGER_S = 1.0
"""How long further bytes are read and dropped after an error, so that the client can read the response."""


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


class Connection(asyncio.Protocol):
    """Reads requests off one connection.

    Attributes:
        pending: requests whose responses have not been written.
        deadline: when the connection is ended, by `time.monotonic`.
        gone: whether the client has disconnected.
    """

    def __init__(self, server: Receiver[Connection]) -> None:
        self.server = server
        self.pending: deque[Request] = deque()
        self.deadline = float("inf")
        self.gone = False
        self._rest = b""  # the beginning of a head, or what waits while nothing is read
        self._skipped = False  # an empty line before the head that is being read
        self._parsed: ParsedHead | None = None  # of the request whose body is being read
        self._body: FixedBody | LargeBody | ChunkedBody | None = None
        self._state = HEAD
        self._flow = FlowControl()
        self._since = 0.0
        self._held = 0
        self._asked = False  # whether a whole request has come

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one without saying so
        self._flow.transport = self.transport
        self.server.opened(self)
        self.deadline = time.monotonic() + KEEP_ALIVE_S

    def connection_lost(self, error: Exception | None) -> None:
        self.server.closed(self)
        self._release()
        self._state, self.gone = CLOSING, True

    def eof_received(self) -> bool:
        """Drops an incomplete request; responses to complete ones are still written."""
        if self._body is not None or self._rest:
            self._fail(ApiError("bad_request", "the request is incomplete"))
        elif self.pending:
            self.pending[-1].keep_alive = False
            return True
        return bool(self.pending)

    def pause_writing(self) -> None:
        """The client does not read its responses: no request is read either, and a deadline begins."""
        self._flow.writes_are_full = True
        self._flow.pause()
        self.deadline = time.monotonic() + self.server.body_timeout_s

    def resume_writing(self) -> None:
        self._flow.writes_are_full = False
        self.deadline = float("inf")
        if self._body is not None or self._rest:
            self.deadline = time.monotonic() + self.server.body_timeout_s
        self.flush()

    def data_received(self, data: bytes) -> None:
        flow = self._flow
        flow.found_full = False
        waits = self._state is CLOSING or flow.writes_are_full or len(self.pending) >= MAX_PIPELINED
        if self._state is HEAD and not self._rest and not waits:
            end = data.find(b"\r\n\r\n") + 4
            parsed = self.server.head_parser.known(data[:end])
            if parsed is not None and len(data) == end + parsed.head.length <= SMALL_BYTES and not parsed.head.chunked:
                # The common case: one whole request with a head that was seen before.
                self._skipped = False
                self._complete(parsed, data[end:], time.perf_counter())
                return
        if self._state is not CLOSING:
            try:
                self._read(data)
            except ApiError as error:
                self._fail(error)

    # Reading.

    def _read(self, data: bytes) -> None:
        for turn in itertools.count():
            if self._state is CLOSING or self._holds_up(turn, data):
                return
            if self._state is HEAD:
                data = self._read_head(data) if data else data
            if self._body is None:
                return
            rest = self._body.feed(data)
            self._hold(len(data) - len(rest or b""))
            if rest is None:
                self._fill()
                return
            self._complete(*self._take_whole())
            data = rest

    def _holds_up(self, turn: int, data: bytes) -> bool:
        """Whether nothing may be read for now; then the data is kept, and reading goes on later."""
        flow = self._flow
        flow.rests = flow.found_full and bool(data)
        is_full = flow.writes_are_full or len(self.pending) >= MAX_PIPELINED
        if not (flow.rests or is_full or (turn >= MAX_PER_TURN and data)):
            return False
        self._rest += data
        flow.pause()
        if flow.rests:
            self.server.later(self._wake, REST_S * random.uniform(0.5, 1.5))  # not all at the same moment
        elif not flow.writes_are_full and not self.pending:  # else the next response goes on
            self.server.later(self._go_on)
        return True

    def _fill(self) -> None:
        """Receives the rest of a large body directly into its buffer."""
        if isinstance(self._body, LargeBody):
            self._state = LARGE_BODY
            self.transport.set_protocol(BodyReceiver(self, self._body, self._filled))

    def _filled(self, count: int) -> None:
        if not isinstance(self._body, LargeBody):  # the connection ends
            return
        try:
            self._hold(count)
        except ApiError as error:
            self._fail(error)
            return
        if self._body.took(count):
            self._stop_filling()
            self._complete(*self._take_whole())

    def _stop_filling(self) -> None:
        if self._state is LARGE_BODY:
            self._state = BODY
            self.transport.set_protocol(self)

    def _take_whole(self) -> tuple[ParsedHead, Body, float, int]:
        assert self._parsed is not None
        assert self._body is not None
        parsed, body = self._parsed, self._body.whole()
        self._parsed, self._body, self._state = None, None, HEAD
        if len(body) <= SMALL_BYTES:
            self._release()
        held, self._held = self._held, 0
        return parsed, body, self._since, held

    def _read_head(self, data: bytes) -> bytes:
        """Takes a head off the data, if it is whole, and expects its body; what is left."""
        if not self._rest:
            self._since = time.perf_counter()
            self.deadline = time.monotonic() + self.server.header_timeout_s
        data, self._rest = self._rest + data, b""
        if data.startswith(b"\r\n") and not self._skipped:  # RFC 9112, 2.2: one empty line before a request is ignored
            data, self._skipped = data[2:], True
            if not data:
                self.deadline = float("inf") if self.pending else time.monotonic() + KEEP_ALIVE_S
                return b""
        if data[:1] in (b"\r", b"\n") and (data != b"\r" or self._skipped):
            raise ApiError("bad_request", "a line of the head does not end as HTTP says")
        end = data.find(b"\r\n\r\n") + 4
        if len(data if end == 3 else data[:end]) > MAX_BYTES:
            raise ApiError("headers_too_large", f"at most {MAX_BYTES} bytes")
        if end == 3:
            if data.count(b"\n") != data.count(b"\r\n"):
                raise ApiError("bad_request", "a line of the head does not end as HTTP says")
            self._rest = data
            return b""
        self._expect_body(self.server.head_parser.parse(data[:end]))
        return data[end:]

    def _expect_body(self, parsed: ParsedHead) -> None:
        head, self._parsed, self._skipped = parsed.head, parsed, False
        if parsed.refusal is not None and (head.length or head.chunked):
            raise parsed.refusal.with_traceback(None)  # the body would be read for nothing; raised often, it would grow
        limit = self.server.limit_of(parsed)
        if head.length > limit:
            raise ApiError("body_too_large", f"at most {limit} bytes")
        self._state = BODY
        if head.chunked:
            self._body = ChunkedBody(limit)
        else:
            self._body = (LargeBody if head.length >= LARGE_BYTES else FixedBody)(head.length)
        self.deadline = time.monotonic() + self.server.body_timeout_s
        if head.wants_continue and not self.pending:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _hold(self, size: int) -> None:
        """Counts bytes of a body; raises ApiError when the bodies of all connections together are too large."""
        self._held += size
        self.server.held_bytes += size
        if self._held > SMALL_BYTES and self.server.held_bytes > MAX_HELD * self.server.max_body_bytes:
            raise ApiError("overloaded", "too many large requests at once; try again soon")

    def give_back(self, size: int) -> None:
        """Frees so many bytes of a body."""
        self.server.held_bytes -= size

    def _release(self) -> None:
        self.server.held_bytes -= self._held
        self._held = 0

    def _complete(self, parsed: ParsedHead, body: Body, received: float, held: int = 0) -> None:
        request = Request(self, parsed, body, received, held)
        self._asked = True
        if self.server.draining:
            if self.pending and self.pending[-1].parsed is not None:  # it is not the last one after all
                self.pending[-1].keep_alive = self.pending[-1].parsed.head.keep_alive
            request.keep_alive = False
        self.pending.append(request)
        self.deadline = float("inf")
        if parsed.refusal is not None:
            self.server.refuse(request, parsed.refusal)
        else:
            self.server.take(request)

    def _fail(self, error: ApiError) -> None:
        """Answers an unreadable request with an error, and ends the connection: the next request's start is unknown."""
        request = Request(self, self._parsed, b"", self._since or time.perf_counter())
        request.keep_alive = False
        self._stop_reading()
        self.pending.append(request)
        self.server.refuse(request, error)

    def _stop_reading(self) -> None:
        """Drops what has come of the next request, and what still comes."""
        self._stop_filling()
        self._parsed, self._body, self._rest, self._state = None, None, b"", CLOSING
        self._release()

    def refused_for_load(self) -> None:
        """Notes that the latest request was refused because the server was full."""
        self._flow.found_full = True

    def _wake(self) -> None:
        self._flow.rests = False
        self._go_on()

    def _go_on(self) -> None:
        if self._state is CLOSING or not self._flow.may_resume:
            return
        self._flow.resume()
        data, self._rest = self._rest, b""
        if data:
            self.data_received(data)

    # Answering.

    def flush(self) -> None:
        """Writes the responses that are ready, in order."""
        pending, transport = self.pending, self.transport
        while pending and (reply := pending[0].reply) is not None:
            request = pending.popleft()
            if transport.is_closing():
                continue
            transport.write(reply)
            if not request.keep_alive:
                self._end()
                return
        flow = self._flow
        if self._state is CLOSING or flow.writes_are_full or transport.is_closing():
            return
        if not pending and self._body is None and not self._rest:
            self.deadline = time.monotonic() + KEEP_ALIVE_S
        if flow.is_paused and len(pending) < MAX_PER_TURN:
            self._go_on()

    def _end(self) -> None:
        """Closes the connection in a way that lets the client read the response while it may still be sending."""
        self._stop_reading()
        self.pending.clear()
        if self.transport.can_write_eof():
            self.transport.write_eof()
            self.deadline = time.monotonic() + LINGER_S
            self._flow.resume()
        else:
            self.transport.close()

    def cut(self) -> None:
        """Ends the connection, whose last response was written by other means."""
        self._stop_reading()
        self.pending.clear()
        self.transport.close()

    @property
    def is_idle(self) -> bool:
        """Whether no request is open, not even a part of one."""
        return not self.pending and self._state is HEAD and not self._rest

    @property
    def is_slow(self) -> bool:
        """Whether its client sent part of a request, does not read its responses, or has never sent a request."""
        receives = not self.pending and (self._body is not None or bool(self._rest))
        return self._flow.writes_are_full or receives or (self.is_idle and not self._asked)

    def expire(self) -> None:
        """Ends the connection at its deadline: idle ones without a response, slow requests with an error."""
        self.deadline = float("inf")
        if self._state is CLOSING or self._flow.is_paused:
            self.transport.abort()
        elif self._body is not None or self._rest:
            self._fail(ApiError("request_timeout", "the request did not come whole in time"))
        else:
            self._state = CLOSING
            self.transport.close()
