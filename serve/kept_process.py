"""Keeps a process beside the server alive: starts it again when it dies, with longer and longer waits."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from serve.run_folder import METRICS, SERVER_PID
from serve.settings import Settings

FIRST_WAIT_S, MAX_WAIT_S = 0.5, 60.0
"""Seconds between the end of a process and the start of the next: the first wait, and the longest."""
STOP_S = 5.0
"""Seconds for a process to end after SIGTERM; then it is killed."""

log = logging.getLogger("serve")


class KeptProcess:
    """A module that runs as a process of its own, and is to end when its parent does.

    It gets the settings as POLICY_ variables, and the server's process id in SERVER_PID.
    """

    def __init__(
        self,
        settings: Settings,
        run_folder: Path,
        module: str,
        variables: Mapping[str, str],
        ended: str,
        pass_fds: Sequence[int] = (),
    ) -> None:
        """Starts the process.

        Args:
            settings: of the server.
            run_folder: of the server.
            module: to run.
            variables: more of the environment.
            ended: logged when the process ended: what that means, without a full stop.
            pass_fds: file descriptors that it inherits.
        """
        self._settings, self._folder, self._module = settings, run_folder, module
        self._variables, self._text, self._pass_fds = dict(variables), ended, pass_fds
        self._wait_s = FIRST_WAIT_S
        self._ended: float | None = None
        self._process = self._start()

    @property
    def pid(self) -> int:
        """Of the process that was started last."""
        return self._process.pid

    @property
    def is_done(self) -> bool:
        """Whether the process has done its work, and is not to be started again."""
        return False

    def keep_alive(self) -> None:
        """Starts the process again if it died before its work was done; to be called regularly."""
        if self._process.poll() is None or self.is_done:
            return
        now = time.monotonic()
        if self._ended is None:
            self._ended = now
            self._note_end()
            self._wait_s = min(self._wait_s * 2, MAX_WAIT_S) if now - self._began < MAX_WAIT_S else FIRST_WAIT_S
            log.error("%s. It is started again in %.1f s", self._text, self._wait_s)
        elif now - self._ended >= self._wait_s:
            self._ended = None
            self._process = self._start()

    def begin_stop(self) -> None:
        """Called when the server begins to stop, some seconds before `stop`."""

    def stop(self, wait_s: float = STOP_S) -> None:
        """Ends the process; kills it after `wait_s` seconds."""
        self._process.terminate()
        try:
            self._process.wait(wait_s)
        except subprocess.TimeoutExpired:
            self._process.kill()

    def _note_end(self) -> None:
        """Called when the process has ended."""
        from serve.telemetry.dead_counters import add_up  # prometheus_client, when its folder is set

        add_up(self._folder / METRICS, self._process.pid)

    def _start(self) -> subprocess.Popen[bytes]:
        self._began = time.monotonic()
        ours = {SERVER_PID: str(os.getpid()), **self._variables, **self._settings.to_environment()}
        command = [sys.executable, "-P", "-m", self._module]
        return subprocess.Popen(command, env={**os.environ, **ours}, pass_fds=self._pass_fds)
