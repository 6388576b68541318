"""Accepts connections for one worker, but leaves them to another worker that holds fewer."""

from __future__ import annotations

import asyncio
import errno
import logging
import resource
import socket
import ssl
import time
from collections.abc import Callable, Sequence

from serve.policy.slot import Slot
from serve.run_folder import STOPPING
from serve.wire.connection import Connection
from serve.wire.connection_counts import ConnectionCounts
from serve.wire.refuse_more import refuse_more

LEFT_TO_OTHERS_S = 0.002
"""Seconds for which a connection is left to others. A worker that runs a forward is back in less."""
NOT_READY_S = 0.1
"""The same for a worker that is not ready yet, or is stopping, while others can answer."""
FULL_S = 0.01
"""Seconds between two tries while the process has as many open files as it may."""
SPARE_FILES = 32
"""Open files reserved for what is not a connection; an eighth of all if few are allowed."""
MAX_AT_ONCE = 2
"""Most connections accepted in one go: setting one up takes longer than answering a request, and requests wait."""
SEND_BUFFER = 256 * 1024
"""Bytes of responses that the kernel buffers per client; by default that is megabytes for one that never reads."""
PLENTY = 2**31
"""More connections than any worker holds."""
MADE_ROOM = 32
"""Most connections that are closed at once when there is no room for a new one."""
LOG_INTERVAL_S = 1.0
"""Seconds between two log lines about such closed connections."""
_FULL = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}

log = logging.getLogger("serve")


class Acceptor:
    """Takes connections from listening sockets.

    Attributes:
        connections: open connections.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, listeners: Sequence[socket.socket], connections: set[Connection]
    ) -> None:
        self._loop, self._listeners, self.connections = loop, listeners, connections
        self._coming: dict[Connection, asyncio.Task[None]] = {}
        self._left: dict[socket.socket, asyncio.TimerHandle] = {}  # listeners whose next connection is left to others
        self._stopped = False
        self._logged_at, self._ended = 0.0, 0  # when closed connections were logged last; closed since then

    def start(
        self,
        connect: Callable[[], Connection],
        tls: ssl.SSLContext | None,
        handshake_s: float,
        shares: ConnectionCounts,
        place: int,
        slot: Slot,
    ) -> None:
        """Accepts from now on.

        Args:
            connect: makes the protocol of a connection.
            tls: None for plain text.
            handshake_s: most seconds for a TLS handshake.
            shares: the table of how many connections each worker holds.
            place: this worker's place in the table.
            slot: once it is ready, this worker takes its share of connections; before that only if no other worker
                does, and while it drains only what others leave.
        """
        self._connect, self._tls, self._handshake_s = connect, tls, handshake_s
        self._shares, self._place, self._slot = shares, place, slot
        self.publish()
        for listener in self._listeners:
            listener.setblocking(False)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)  # accepted sockets inherit it
            self._loop.add_reader(listener, self._accept, listener)

    @property
    def held(self) -> int:
        """Number of connections, including those that are being set up."""
        return len(self.connections) + sum(each not in self.connections for each in self._coming)

    def publish(self) -> None:
        """Updates the table with how many connections this worker holds, and takes again what is no longer for others.

        To be called when a connection ends, and regularly.
        """
        if self._takes_its_share:
            self._shares.hold(self._place, self.held)
        else:
            self._shares.leave(self._place)
        if self._left and not self._others_should():  # it held more when it left one to others
            for listener, timer in [*self._left.items()]:
                timer.cancel()
                self._go_on(listener)

    def stop(self) -> None:
        """Accepts what waits in the listen queues; if the whole server stops, later clients are refused."""
        self._stopped = True
        for listener in self._listeners:
            self._loop.remove_reader(listener)
            if (self._slot.folder / STOPPING).exists():
                refuse_more(listener)
        self._take_all()

    def close(self) -> None:
        """Called HANDSHAKE_S after `stop`: accepts the last ones, so that none is reset, and closes the queues."""
        self._take_all()
        for listener in self._listeners:
            listener.close()

    def _take_all(self) -> None:
        for listener in self._listeners:
            while self._take_one(listener):
                pass

    @property
    def _takes_its_share(self) -> bool:
        """Whether this worker is ready, and not stopping."""
        return self._slot.ready and not self._slot.draining

    def _others_should(self) -> bool:
        """Whether another worker should take the next connection."""
        return self._shares.others_hold_less(self.held if self._takes_its_share else PLENTY)

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(MAX_AT_ONCE):
            if self._others_should():
                seconds = LEFT_TO_OTHERS_S if self._takes_its_share else NOT_READY_S
                self._left[listener] = self._pause(listener, seconds)
                return
            if not self._take_one(listener):
                return

    def _pause(self, listener: socket.socket, seconds: float) -> asyncio.TimerHandle:
        self._loop.remove_reader(listener)
        return self._loop.call_later(seconds, self._go_on, listener)

    def _go_on(self, listener: socket.socket) -> None:
        self._left.pop(listener, None)
        if not self._stopped:  # meanwhile
            self._loop.add_reader(listener, self._accept, listener)
            if self._slot.ready or not self._others_should():
                self._take_one(listener)

    def _take_one(self, listener: socket.socket) -> bool:
        """Accepts one connection; returns whether there was one."""
        try:
            accepted, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return False
        except OSError as error:
            if error.errno not in _FULL:
                raise
            self._make_room()
            self._pause(listener, FULL_S)
            return False
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if accepted.fileno() >= limit - min(SPARE_FILES, limit // 8):  # the kernel gives the lowest number that is free
            self._make_room()
        accepted.setblocking(False)
        connection = self._connect()
        self._coming[connection] = self._loop.create_task(self._set_up(connection, accepted))
        self.publish()
        return True

    async def _set_up(self, connection: Connection, accepted: socket.socket) -> None:
        limit = self._handshake_s if self._tls else None
        try:
            await self._loop.connect_accepted_socket(
                lambda: connection, accepted, ssl=self._tls, ssl_handshake_timeout=limit
            )
        except OSError as error:  # a failed or late handshake, or the client is gone
            log.debug("a connection came to nothing: %s", error)
            accepted.close()
        finally:
            del self._coming[connection]
            self.publish()

    def _make_room(self) -> None:
        """Closes the connections that were slow for longest; if none is slow, the one that was idle for longest."""
        ended = sorted((each for each in self.connections if each.is_slow), key=lambda each: each.deadline)[:MADE_ROOM]
        if not ended:
            ended = sorted((each for each in self.connections if each.is_idle), key=lambda each: each.deadline)[:1]
        for connection in ended:
            connection.transport.abort()
        self._ended += len(ended)
        if (now := time.monotonic()) - self._logged_at > LOG_INTERVAL_S:
            log.error(
                "too many open files: closed %d slow or idle connections; raise `ulimit -n` if this goes on",
                self._ended,
            )
            self._logged_at, self._ended = now, 0
