"""One request that is being answered, and the interface of what answers it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from serve.codecs.options import Body
from serve.errors import ApiError
from serve.wire.parsed_head import HeadParser, ParsedHead

ConnectionT = TypeVar("ConnectionT", contravariant=True)


class Peer(Protocol):
    """The connection on which a request came."""

    pending: deque[Request]
    gone: bool
    transport: asyncio.Transport

    def give_back(self, size: int) -> None:
        """Releases `size` bytes of a body."""

    def flush(self) -> None:
        """Sends the responses that are ready, in order."""

    def refused_for_load(self) -> None:
        """Notes that the last request read was refused because the server is full."""

    def cut(self) -> None:
        """Closes it, since its last response was sent outside the event loop."""


class Request(msgspec.Struct, eq=False):
    """A request that is being answered.

    Attributes:
        connection: on which it came, and on which its response goes out.
        parsed: its head; None where that could not be read.
        body: the whole body.
        received: when its first byte was read, by `time.perf_counter`.
        keep_alive: whether the connection stays open after its response.
        held: bytes of its body in memory, released once this is answered.
        outside: whether the watchdog answered it or closed its connection.
        request_id: as in its response.
        reply: its whole response, once it is answered.
        episode_id: of the episode that it named, once it is answered.
        version: of the policy that answered. Set with `control`.
        control: throttle, brake, steer that it was answered with, (B, 3), as `BatchSlice.pedals`; None for an error.
            Set for requests that name an episode.
    """

    connection: Peer
    parsed: ParsedHead | None
    body: Body
    received: float
    keep_alive: bool = False
    held: int = 0
    outside: bool = False
    request_id: str = ""
    reply: bytes | None = None
    episode_id: str | None = None
    version: str = ""
    control: NDArray[np.float32] | None = None

    def answer(self, reply: bytes) -> None:
        """Sends the whole response as soon as those before it are sent. A second response is dropped."""
        if self.reply is None:
            self.reply = reply
            self.release()
            self.connection.flush()

    def release(self) -> None:
        """Releases the memory of its body."""
        if self.held:
            self.connection.give_back(self.held)
            self.held = 0


class Bounds(Protocol):
    """What a connection has to know of the server in order to read a request."""

    head_parser: HeadParser
    max_body_bytes: int
    held_bytes: int

    def limit_of(self, parsed: ParsedHead) -> int:
        """Returns the most bytes that the body of such a request can need."""


class Receiver(Bounds, Protocol[ConnectionT]):
    """What answers the requests of connections: the Dispatcher."""

    draining: bool
    header_timeout_s: float
    body_timeout_s: float

    def later(self, call: Callable[[], None], seconds: float = 0.0) -> None:
        """Calls it in a later iteration of the event loop, at least `seconds` from now."""

    def opened(self, connection: ConnectionT) -> None:
        """Adds a connection."""

    def closed(self, connection: ConnectionT) -> None:
        """Removes a connection that has closed."""

    def take(self, request: Request) -> None:
        """Answers a request, now or later."""

    def refuse(self, request: Request, error: ApiError) -> None:
        """Answers a request with an error."""
