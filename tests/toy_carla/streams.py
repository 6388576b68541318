"""The streams' port: a client sends the number of a stream, and gets payload after payload, after its size as a u32.

Source: LibCarla, streaming/detail/tcp/Client.cpp and ServerSession.cpp.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable

UNSENT_BYTES = 64 * 2**20
"""A subscriber that has so much to read misses payloads, as in CARLA, where slow clients lose frames."""

SUBSCRIBE_S = 2.0
"""How long a tick waits for announced subscribers, seconds."""


class Streams:
    """The subscribers of each stream."""

    def __init__(self, greet: Callable[[int], bytes | None]) -> None:
        """`greet` makes what a new subscriber of a stream gets at once; None where it waits for the next payload."""
        self.greet = greet
        self._subscribers: dict[int, set[asyncio.Transport]] = {}
        self._expected: set[int] = set()
        self._arrived = asyncio.Event()

    def expect(self, stream: int) -> None:
        """Says that somebody is about to subscribe: a client asks for the stream's place first."""
        self._expected.add(stream)

    async def complete(self) -> None:
        """Waits for announced subscribers, so that no sensor misses the tick after `listen`."""
        deadline = asyncio.get_running_loop().time() + SUBSCRIBE_S
        while self._expected:
            self._arrived.clear()
            try:
                async with asyncio.timeout_at(deadline):
                    await self._arrived.wait()
            except TimeoutError:
                self._expected.clear()

    def is_wanted(self, stream: int) -> bool:
        """Whether anybody listens: otherwise nothing has to be made."""
        return bool(self._subscribers.get(stream))

    def send(self, stream: int, payload: bytes) -> None:
        """Sends to everybody who listens."""
        for transport in self._subscribers.get(stream, ()):
            if transport.get_write_buffer_size() < UNSENT_BYTES:
                transport.writelines((struct.pack("<I", len(payload)), payload))

    def connection(self) -> asyncio.Protocol:
        return _Subscription(self)

    def subscribe(self, stream: int, transport: asyncio.Transport) -> None:
        self._subscribers.setdefault(stream, set()).add(transport)
        self._expected.discard(stream)
        self._arrived.set()
        if (payload := self.greet(stream)) is not None:
            transport.writelines((struct.pack("<I", len(payload)), payload))

    def leave(self, transport: asyncio.Transport) -> None:
        for subscribers in self._subscribers.values():
            subscribers.discard(transport)


class _Subscription(asyncio.Protocol):
    def __init__(self, streams: Streams) -> None:
        self._streams, self._head = streams, b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if len(self._head) < 4 and self._transport is not None:
            self._head = (self._head + data)[:4]
            if len(self._head) == 4:
                self._streams.subscribe(struct.unpack("<I", self._head)[0], self._transport)

    def connection_lost(self, error: Exception | None) -> None:
        if self._transport is not None:
            self._streams.leave(self._transport)
