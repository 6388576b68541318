"""Runs the follower as a process beside the server, and restarts it when it dies."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import time
from pathlib import Path

from serve.run_folder import HINT_FD, METRICS, SERVER_PID, STATUS_FILE, Followed, read_file
from serve.settings import Settings

FIRST_WAIT_S, MAX_WAIT_S = 0.5, 60.0
"""Seconds between the end of a follower and the start of the next: the first wait, and the longest."""
STOP_S = 5.0
"""Seconds for the follower to end after SIGTERM; then it is killed."""

log = logging.getLogger("serve")


class FollowerProcess:
    """Starts and restarts the follower, and passes hints to it. The follower ends when its parent does."""

    def __init__(self, settings: Settings, status_file: Path) -> None:
        self._settings = settings
        self._status_file = status_file
        self._hints, self._hint = os.pipe()
        os.set_blocking(self._hint, False)
        self._wait_s = FIRST_WAIT_S
        self._ended: float | None = None
        self._process = self._start()

    def poll_now(self) -> None:
        """Makes the follower poll the registry at once; can be called in any process of the server."""
        with contextlib.suppress(BlockingIOError):  # the pipe is full of earlier hints
            os.write(self._hint, b"!")

    def keep_alive(self) -> None:
        """Restarts the follower if it died before its work was done; to be called regularly."""
        if self._process.poll() is None or (read_file(self._status_file, Followed) or Followed()).done:
            return
        now = time.monotonic()
        if self._ended is None:
            from serve.telemetry.dead_counters import add_up  # prometheus_client, when its folder is set

            self._ended = now
            add_up(self._status_file.parent / METRICS, self._process.pid)
            self._wait_s = min(self._wait_s * 2, MAX_WAIT_S) if now - self._began < MAX_WAIT_S else FIRST_WAIT_S
            log.error(
                "the follower process ended; the served versions stay. It is started again in %.1f s", self._wait_s
            )
        elif now - self._ended >= self._wait_s:
            self._ended = None
            self._process = self._start()

    def stop(self) -> None:
        """Ends the follower."""
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()

    def _start(self) -> subprocess.Popen[bytes]:
        self._began = time.monotonic()
        ours = {
            STATUS_FILE: str(self._status_file),
            SERVER_PID: str(os.getpid()),
            HINT_FD: str(self._hints),
            **self._settings.to_environment(),
        }
        command = [sys.executable, "-P", "-m", "serve.following.follower"]
        return subprocess.Popen(command, env={**os.environ, **ours}, pass_fds=[self._hints])
