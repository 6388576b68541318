"""Our worker class for gunicorn: one event loop (uvloop) that answers predictions itself.

gunicorn starts, counts, signals and replaces the processes. On SIGTERM a worker reports on /readyz that it is stopping,
keeps accepting for `drain_s` until load balancers have noticed, closes each connection with its next response, takes
what still waits in the listen queue, and exits when all is answered.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import time
from types import FrameType
from typing import Any

import uvloop
from gunicorn.workers.base import Worker

from serve.batching.watchdog import EXIT_CODE
from serve.dispatcher import Dispatcher
from serve.following.attempts import withdraw
from serve.record.hook import flush_records, stop_records
from serve.settings import SWITCH_S
from serve.telemetry import metrics
from serve.wire.acceptor import Acceptor
from serve.wire.connection import Connection
from serve.wire.connection_counts import SHARES
from serve.wire.outside import tls_context
from serve.wire.refuse_more import HANDSHAKE_S

SWEEP_S = 0.1
GC_THRESHOLD = 50_000
"""New objects before Python collects cycles: the lists of one large request should not cause a collection."""
SETTLE_S = 0.1
"""Seconds from the last accepted connection until idle ones are closed: what was sent on them is read first."""
FIRST_REQUEST_S = 3.0
"""Seconds after that for a first request: a client that has connected, but is slow, is answered and not cut off."""
REPLACED_S = 2.0
"""Seconds that a worker with a hung forward waits for its other requests."""


class LoopWorker(Worker):  # type: ignore[misc]
    """One process of the server. The app carries the slot and the settings as extensions.

    Attributes:
        place: index in the table of connection counts.
    """

    def __init__(self, *of_gunicorn: Any) -> None:
        """Called in the master process, before the worker is forked."""
        super().__init__(*of_gunicorn)
        self.place = SHARES.give_place()

    def forgotten(self) -> None:
        """Called in the master process when the worker is gone."""
        SHARES.take_back(self.place)

    def init_process(self) -> None:
        self._exit_code = 0
        super().init_process()

    def run(self) -> None:
        """Serves until told to stop."""
        loop = uvloop.new_event_loop()
        asyncio.set_event_loop(loop)
        gc.freeze()  # excludes what exists now from collection
        gc.set_threshold(GC_THRESHOLD)
        sys.setswitchinterval(SWITCH_S)
        try:
            loop.run_until_complete(self._serve(loop))
        finally:
            metrics.BUFFER.flush()
            stop_records()
        sys.stdout.flush()
        if self._exit_code:
            withdraw()
            os._exit(self._exit_code)  # a hung thread would keep the process alive

    async def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        slot, settings = self.wsgi.extensions["slot"], self.wsgi.extensions["settings"]
        self._loop, self._slot, self._settings = loop, slot, settings
        self._stopped = asyncio.Event()
        self._dispatcher = dispatcher = Dispatcher(loop, self.wsgi, slot, settings)
        dispatcher.chunked_executor.on_hang = self._replace
        dispatcher.start()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            loop.add_signal_handler(number, self._on_stop_signal, number)
        tls = tls_context(settings.certfile, settings.keyfile) if settings.certfile else None
        listeners = [listener.sock for listener in self.sockets]
        self._acceptor = Acceptor(loop, listeners, dispatcher.connections)
        self._acceptor.start(self._connect, tls, settings.header_timeout_s, SHARES, self.place, slot)
        dispatcher.on_closed = self._acceptor.publish
        self._sweep(time.monotonic())
        await self._stopped.wait()
        dispatcher.stop()

    def _connect(self) -> Connection:
        return Connection(self._dispatcher)

    # Every tenth of a second.

    def _sweep(self, second: float) -> None:
        now = time.monotonic()
        if now - second >= 1:
            second = now
            self._dispatcher.response_writer.second()
            self.notify()
            if os.getppid() != self.ppid:  # the master is gone
                self.log.info("the master process is gone: stopping")
                self._stopped.set()
                return
        self._loop.call_later(SWEEP_S, self._sweep, second)
        for connection in [c for c in self._dispatcher.connections if c.deadline < now]:
            connection.expire()
        self._acceptor.publish()
        metrics.BUFFER.flush()
        flush_records()
        metrics.IN_FLIGHT.set(self._dispatcher.in_flight)

    # Stopping.

    def _on_stop_signal(self, number: int) -> None:
        if number != signal.SIGTERM:
            self._stopped.set()
        elif not self._slot.draining:
            self._slot.draining = self._dispatcher.draining = True
            self._acceptor.publish()
            self._loop.call_later(self._settings.drain_s, self._stop_accepting, self._settings.grace_s)

    def _stop_accepting(self, grace_s: float) -> None:
        self._acceptor.stop()
        self._loop.call_later(HANDSHAKE_S, self._close_listeners, time.monotonic() + grace_s)

    def _close_listeners(self, latest: float) -> None:
        self._acceptor.close()
        self._loop.call_later(SETTLE_S, self._leave, time.monotonic() + SETTLE_S + FIRST_REQUEST_S, latest)

    def _leave(self, first_request_until: float, latest: float) -> None:
        """Stops when everything is answered, or at the time `latest`."""
        now = time.monotonic()
        for connection in list(self._dispatcher.connections):
            if connection.is_idle and (connection.was_used or now >= first_request_until):
                connection.transport.close()
        if (self._dispatcher.connections or self._dispatcher.in_flight) and now < latest:
            self._loop.call_later(0.02, self._leave, first_request_until, latest)
        else:
            self._stopped.set()

    def _replace(self) -> None:
        """Stops this process, which has a hung thread, so that gunicorn replaces it."""
        if not self._exit_code:
            self._exit_code = EXIT_CODE
            self.log.critical("a forward pass took longer than --forward-timeout-s: this worker is being replaced")
            self._dispatcher.draining = True
            self._stop_accepting(REPLACED_S)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Handles a stop signal that comes before the event loop runs."""
        sys.exit(0)

    def handle_abort(self, sig: int, frame: Any) -> None:
        """Handles gunicorn's signal that this process has missed its heartbeat."""
        os._exit(1)
