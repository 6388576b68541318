"""One request that is being answered, and who answers it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol, TypeVar

from serve.codecs.options import Body
from serve.errors import ApiError
from serve.wire.parsed_head import HeadParser, ParsedHead

ConnectionT = TypeVar("ConnectionT", contravariant=True)


class Peer(Protocol):
    """The connection that a request came on."""

    pending: deque[Request]
    gone: bool
    transport: asyncio.Transport

    def give_back(self, size: int) -> None:
        """So many bytes of a body are not held any more."""

    def flush(self) -> None:
        """Sends the answers that are there, in order."""

    def refused_for_load(self) -> None:
        """The request that was read last found the server full."""

    def cut(self) -> None:
        """Ends it: what it was answered last has gone out by another way."""


class Request:
    """A request that is being answered."""

    __slots__ = ("body", "connection", "held", "keep_alive", "outside", "parsed", "received", "reply", "request_id")

    def __init__(self, connection: Peer, parsed: ParsedHead | None, body: Body, received: float, held: int = 0) -> None:
        self.connection, self.parsed, self.body, self.received = connection, parsed, body, received
        self.held = held  # bytes of the server's that are free again once this is answered
        self.outside = False  # whether it was answered, or its connection ended, while the event loop could not
        self.keep_alive = parsed is not None and parsed.head.keep_alive
        self.request_id = ""
        self.reply: bytes | None = None

    def answer(self, reply: bytes) -> None:
        """Sends the whole answer as soon as those before it are sent. A second answer is dropped."""
        if self.reply is None:
            self.reply = reply
            self.release()
            self.connection.flush()

    def release(self) -> None:
        """Its body is not needed any more."""
        if self.held:
            self.connection.give_back(self.held)
            self.held = 0


class Receiver(Protocol[ConnectionT]):
    """Who answers requests."""

    head_parser: HeadParser
    draining: bool
    max_body_bytes: int
    header_timeout_s: float
    body_timeout_s: float
    held_bytes: int

    def later(self, call: Callable[[], None], seconds: float = 0.0) -> None:
        """Calls it when the others had their turn, and no earlier than in so many seconds."""

    def opened(self, connection: ConnectionT) -> None:
        """Somebody connected."""

    def closed(self, connection: ConnectionT) -> None:
        """A connection is over."""

    def limit_of(self, parsed: ParsedHead) -> int:
        """Most bytes that the body of such a request can need."""

    def take(self, request: Request) -> None:
        """Answers a request, now or later."""

    def refuse(self, request: Request, error: ApiError) -> None:
        """Answers a request that can't be taken."""
