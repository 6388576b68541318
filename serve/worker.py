"""gunicorn's threaded worker, with a stop that drops nothing.

Told to stop, it says so on /readyz, goes on accepting for `drain_s` while load balancers look away, closes each
connection with its next answer, takes what still waits in the listen queue, and leaves when all is answered.
"""

from __future__ import annotations

import select
import threading
import time
from types import FrameType

from gunicorn.workers.gthread import ThreadWorker


class DrainingWorker(ThreadWorker):  # type: ignore[misc]
    """One process of the server. The app carries the slot and the settings as extensions."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """SIGTERM: drain first, then let gunicorn's own graceful stop finish."""
        slot = self.wsgi.extensions["slot"]
        if slot.draining:
            return
        slot.draining = True
        self.max_keepalived = -1  # gunicorn then closes each connection with its next answer, and says so in it
        timer = threading.Timer(self.wsgi.extensions["settings"].drain_s, super().handle_exit, (sig, frame))
        timer.daemon = True
        timer.start()

    def set_accept_enabled(self, enabled: bool) -> None:
        if not enabled and not self.alive and self._accepting:
            self._accept_the_rest()
        super().set_accept_enabled(enabled)
        if not enabled and not self.alive:
            for listener in self.sockets:
                listener.close()

    def _accept_the_rest(self) -> None:
        """Takes what waits in the listen queue, then ends the connections that have nothing to say."""
        for listener in self.sockets:
            while select.select([listener], [], [], 0)[0]:
                self.accept(listener)
        for connection in (*self.keepalived_conns, *self.pending_conns):
            connection.timeout = time.monotonic()
        self.murder_keepalived()
        self.murder_pending()
