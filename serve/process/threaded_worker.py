"""gunicorn's threaded worker, changed so that it stops without dropping requests.

On SIGTERM it reports on /readyz that it is stopping, keeps accepting for `drain_s` until load balancers have noticed,
closes each connection with its next response, takes what still waits in the listen queue, and exits when all is
answered.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time
import uuid
from http import HTTPStatus
from types import FrameType
from typing import Any
from weakref import WeakKeyDictionary

import msgspec
from gunicorn.http.errors import LimitRequestHeaders, LimitRequestLine, ParseException
from gunicorn.workers.gthread import ThreadWorker

from serve.errors import STATUS, ApiError, Code
from serve.record.hook import flush_records
from serve.run_folder import STOPPING
from serve.settings import SWITCH_S
from serve.telemetry import metrics
from serve.telemetry.latest_actions import LatestActions
from serve.web.admission import LATEST_ACTIONS, OWN_LISTENER, UNFRAMED
from serve.wire.connection_counts import SHARES
from serve.wire.refuse_more import HANDSHAKE_S, refuse_more

COUNT_S = 0.1
"""Seconds between two flushes of the metrics buffer."""
_UNREADABLE = {
    "bad_request": "malformed HTTP",
    "headers_too_large": "the request line or the headers are too large",
    "internal": "internal error; the log has it",
}


class DrainingWorker(ThreadWorker):  # type: ignore[misc]
    """One process of the server. The app carries the slot and the settings as extensions."""

    wsgi: Any
    _counted = 0.0

    def __init__(self, *of_gunicorn: Any) -> None:
        """Called in the master process, before the worker is forked."""
        super().__init__(*of_gunicorn)
        self.place = SHARES.give_place()

    def forgotten(self) -> None:
        """Called in the master process when the worker is gone."""
        SHARES.take_back(self.place)

    def notify(self) -> None:
        """Called in each iteration of the worker's loop, at least once a second."""
        super().notify()
        if time.monotonic() - self._counted > COUNT_S:
            self._counted = time.monotonic()
            metrics.BUFFER.flush()
            flush_records()

    def load_wsgi(self) -> None:
        super().load_wsgi()
        sys.setswitchinterval(SWITCH_S)
        app = self.wsgi
        latest: WeakKeyDictionary[socket.socket, LatestActions] = WeakKeyDictionary()  # for each open connection

        def closing(environ: dict[str, Any], start_response: Any) -> Any:
            """Makes gunicorn close the connection after an unframed request; WSGI itself has no means for that."""
            environ[OWN_LISTENER] = True
            connection = environ["gunicorn.socket"]
            environ[LATEST_ACTIONS] = latest.get(connection) or latest.setdefault(connection, LatestActions())
            answer = app(environ, start_response)
            if UNFRAMED in environ:
                start_response.__self__.force_close()
            return answer

        self.wsgi = closing
        self.wsgi.extensions = app.extensions

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """SIGTERM: drains first, then runs gunicorn's own graceful stop."""
        slot = self.wsgi.extensions["slot"]
        if slot.draining:
            return
        slot.draining = True
        self.max_keepalived = -1  # gunicorn then sends each connection's next response with Connection: close
        timer = threading.Timer(self.wsgi.extensions["settings"].drain_s, super().handle_exit, (sig, frame))
        timer.daemon = True
        timer.start()

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: BaseException) -> None:
        """Answers what is not HTTP with an error in the usual shape that repeats nothing of the input."""
        too_large = isinstance(exc, LimitRequestHeaders | LimitRequestLine)
        unreadable: Code = "bad_request" if isinstance(exc, ParseException) else "internal"
        code: Code = "headers_too_large" if too_large else unreadable
        if code == "internal":
            self.log.exception("error handling a connection")
        request_id = uuid.uuid4().hex
        body = msgspec.json.encode(ApiError(code, _UNREADABLE[code]).body(request_id))
        head = (
            f"HTTP/1.1 {STATUS[code]} {HTTPStatus(STATUS[code]).phrase}\r\nConnection: close\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nX-Request-Id: {request_id}\r\n\r\n"
        )
        with contextlib.suppress(OSError):  # the client may be gone
            client.sendall(head.encode() + body)

    def set_accept_enabled(self, enabled: bool) -> None:
        if not enabled and not self.alive and self._accepting:
            self._accept_the_rest()
        super().set_accept_enabled(enabled)
        if not enabled and not self.alive:
            for listener in self.sockets:
                listener.close()

    def _accept_the_rest(self) -> None:
        """Takes arrived requests and what waits in the listen queue; closes connections without a request."""
        self.wait_for_and_dispatch_events(0)
        for connection in (*self.keepalived_conns, *self.pending_conns):
            connection.timeout = time.monotonic()
        self.murder_keepalived()
        self.murder_pending()
        sys.setswitchinterval(1e-5)  # other threads should not delay closing the queue after its last check
        if (self.wsgi.extensions["slot"].folder / STOPPING).exists():
            for listener in self.sockets:
                refuse_more(listener.sock)
            self._accept_all()
            time.sleep(HANDSHAKE_S)
        self._accept_all()

    def _accept_all(self) -> None:
        for listener in self.sockets:
            taken = True
            while taken:
                before = self.nr_conns
                self.accept(listener)
                taken = self.nr_conns > before
