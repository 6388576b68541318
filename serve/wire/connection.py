"""One connection: reads requests from its bytes, and writes the responses in the order of the requests."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections import deque
from typing import cast

from serve.codecs.options import Body
from serve.errors import ApiError
from serve.limits import KEEP_ALIVE_S, LINGER_S, MAX_PER_TURN, MAX_PIPELINED, REST_S, SMALL_BODY_BYTES
from serve.telemetry.latest_actions import LatestActions
from serve.wire.flow_control import FlowControl
from serve.wire.incoming import BODY, CLOSING, HEAD, LARGE_BODY, IncomingRequest
from serve.wire.large_body import BodyReceiver, LargeBody
from serve.wire.parsed_head import ParsedHead
from serve.wire.request import Receiver, Request

NEVER = float("inf")


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
        self.deadline = NEVER
        self.gone = False
        self._latest_actions = LatestActions()
        self._incoming = IncomingRequest(server)
        self._flow = FlowControl()
        self.was_used = False  # whether a complete request has come

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one without saying so
        self._flow.transport = self.transport
        self.server.opened(self)
        self.deadline = time.monotonic() + KEEP_ALIVE_S

    def connection_lost(self, error: Exception | None) -> None:
        self.server.closed(self)
        self._incoming.release()
        self._incoming.state, self.gone = CLOSING, True

    def eof_received(self) -> bool:
        """Drops an incomplete request; responses to complete ones are still written."""
        if self._incoming.has_begun:
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
        self.deadline = time.monotonic() + self.server.body_timeout_s if self._incoming.has_begun else NEVER
        self.flush()

    def data_received(self, data: bytes) -> None:
        flow, incoming = self._flow, self._incoming
        waits = flow.writes_are_full or len(self.pending) >= MAX_PIPELINED
        if incoming.state is HEAD and not incoming.rest and not waits:
            end = data.find(b"\r\n\r\n") + 4
            head = data[:end]
            parsed = self.server.head_parser.known(head) or incoming.own_heads.get(head)
            if (
                parsed is not None
                and len(data) == end + parsed.head.length <= SMALL_BODY_BYTES
                and not parsed.head.chunked
            ):
                # The common case: one whole request with a head that was seen before.
                incoming.skipped = False
                self._complete(parsed, data[end:], time.perf_counter())
                return
        if incoming.state is not CLOSING:
            try:
                self._read(data)
            except ApiError as error:
                self._fail(error)

    # Reading.

    def _read(self, data: bytes) -> None:
        incoming = self._incoming
        self._flow.found_full = False
        for turn in itertools.count():
            if incoming.state is CLOSING or self._must_wait(turn, data):
                return
            if incoming.state is HEAD and data:
                data = self._read_head(data)
            if incoming.body is None:
                return
            rest = incoming.body.feed(data)
            incoming.hold(len(data) - len(rest or b""))
            if rest is None:
                self._receive_large()
                return
            self._complete(*incoming.take())
            data = rest

    def _read_head(self, data: bytes) -> bytes:
        incoming, now = self._incoming, time.monotonic()
        if not incoming.rest:
            self.deadline = now + self.server.header_timeout_s
        data = incoming.read_head(data)
        if incoming.parsed is not None:
            incoming.expect_body()
            self.deadline = now + self.server.body_timeout_s
            if incoming.parsed.head.wants_continue and not self.pending:
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        elif not incoming.rest:  # an empty line
            self.deadline = NEVER if self.pending else now + KEEP_ALIVE_S
        return data

    def _must_wait(self, turn: int, data: bytes) -> bool:
        """Whether nothing may be read for now; then the data is kept, and reading goes on later."""
        flow = self._flow
        flow.rests = flow.found_full and bool(data)
        is_full = flow.writes_are_full or len(self.pending) >= MAX_PIPELINED
        if not (flow.rests or is_full or (turn >= MAX_PER_TURN and data)):
            return False
        self._incoming.rest += data
        flow.pause()
        if flow.rests:
            self.server.later(self._end_rest, REST_S * random.uniform(0.5, 1.5))  # not all at the same moment
        elif not flow.writes_are_full and not self.pending:  # else the next response goes on
            self.server.later(self._go_on)
        return True

    def _end_rest(self) -> None:
        self._flow.rests = False
        self._go_on()

    def _go_on(self) -> None:
        if self._incoming.state is CLOSING or not self._flow.may_resume:
            return
        self._flow.resume()
        data, self._incoming.rest = self._incoming.rest, b""
        if data:
            self.data_received(data)

    def _receive_large(self) -> None:
        """Receives the rest of a large body directly into its buffer."""
        if isinstance(self._incoming.body, LargeBody):
            self._incoming.state = LARGE_BODY
            self.transport.set_protocol(BodyReceiver(self, self._incoming.body, self._received_large))

    def _received_large(self, count: int) -> None:
        incoming = self._incoming
        if not isinstance(incoming.body, LargeBody):  # the connection ends
            return
        try:
            incoming.hold(count)
        except ApiError as error:
            self._fail(error)
            return
        if incoming.body.took(count):
            self._end_large()
            self._complete(*incoming.take())

    def _end_large(self) -> None:
        if self._incoming.state is LARGE_BODY:
            self._incoming.state = BODY
            self.transport.set_protocol(self)

    def _complete(self, parsed: ParsedHead, body: Body, received: float, held: int = 0) -> None:
        request = Request(self, parsed, body, received, parsed.head.keep_alive, held)
        self.was_used = True
        if self.server.draining:
            if self.pending and self.pending[-1].parsed is not None:  # it is not the last one after all
                self.pending[-1].keep_alive = self.pending[-1].parsed.head.keep_alive
            request.keep_alive = False
        self.pending.append(request)
        self.deadline = NEVER
        if parsed.refusal is not None:
            self.server.refuse(request, parsed.refusal)
        else:
            self.server.take(request)

    def _fail(self, error: ApiError) -> None:
        """Answers an unreadable request with an error, and ends the connection: the next request's start is unknown."""
        request = Request(self, self._incoming.parsed, b"", self._incoming.since or time.perf_counter())
        self._stop_reading()
        self.pending.append(request)
        self.server.refuse(request, error)

    def _stop_reading(self) -> None:
        self._end_large()
        self._incoming.drop()

    # What the server calls.

    def give_back(self, size: int) -> None:
        """Frees so many bytes of a body."""
        self.server.held_bytes -= size

    def refused_for_load(self) -> None:
        """Notes that the latest request was refused because the server was full."""
        self._flow.found_full = True

    def flush(self) -> None:
        """Writes the responses that are ready, in order."""
        pending, transport = self.pending, self.transport
        while pending and (reply := pending[0].reply) is not None:
            request = pending.popleft()
            if transport.is_closing():
                continue
            transport.write(reply)
            if request.episode_id is not None:  # here, where pipelined requests are in order
                self._latest_actions.count_change(request.episode_id, request.version, request.control)
            if not request.keep_alive:
                self._end()
                return
        flow, incoming = self._flow, self._incoming
        if incoming.state is CLOSING or flow.writes_are_full or transport.is_closing():
            return
        if not pending and incoming.body is None and not incoming.rest:  # faster than has_begun
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
        return not self.pending and self._incoming.state is HEAD and not self._incoming.rest

    @property
    def is_slow(self) -> bool:
        """Whether its client sent part of a request, does not read its responses, or has never sent a request."""
        receives = not self.pending and self._incoming.has_begun
        return self._flow.writes_are_full or receives or (self.is_idle and not self.was_used)

    def expire(self) -> None:
        """Ends the connection at its deadline: idle ones without a response, slow requests with an error."""
        self.deadline = NEVER
        if self._incoming.state is CLOSING or self._flow.is_paused:
            self.transport.abort()
        elif self._incoming.has_begun:
            self._fail(ApiError("request_timeout", "the request did not come whole in time"))
        else:
            self._incoming.state = CLOSING
            self.transport.close()
