"""Runs the shadow as a process beside the server; ends it where it takes too much or hangs, and starts it again.

The server's master process looks at it once a second, which takes microseconds and waits for nothing. Workers have
nothing to do with it: it reads what they leave in their rings.
"""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import msgspec

from carla_mlflow.artifact.naming import is_artifact_folder
from carla_mlflow.escaping import one_line
from registry.rules.reference import shown
from serve.run_folder import SERVER_PID, write_file
from serve.settings import Settings
from serve.shadow.watch import Watch
from serve.telemetry.shadow_report import STARTING, ShadowLife, life_file, report_file

FIRST_WAIT_S, MAX_WAIT_S = 1.0, 300.0
"""Seconds between the end of a shadow and the start of the next: the first wait, and the longest. Each is twice as long
as the one before, unless the shadow ran for MAX_WAIT_S."""
RUN_FOLDER = "POLICY_SHADOW_RUN_FOLDER"
"""Environment variable with the path of the server's run folder, for the shadow's process."""
START = "POLICY_SHADOW_START"
"""Environment variable with how often the shadow was started, for its process."""

log = logging.getLogger("serve")


class ShadowProcess:
    """Starts, watches and restarts the shadow. No method waits for it, and `keep_alive` raises nothing."""

    def __init__(self, settings: Settings, run_folder: Path) -> None:
        """`settings` and `run_folder` are the server's. It is started by the first `keep_alive`."""
        self._settings, self._folder = settings, run_folder
        self._process: subprocess.Popen[bytes] | None = None
        self._wait_s, self._due, self._began, self._stops = FIRST_WAIT_S, 0.0, 0.0, False
        life_file(run_folder).parent.mkdir(mode=0o700)
        self._life = ShadowLife(shown_shadow(settings.shadow), settings.shadow_share, time.time(), ended=STARTING)
        write_file(life_file(run_folder), self._life)

    def keep_alive(self) -> None:
        """Starts the shadow when it is due, and ends it where it must be; to be called regularly."""
        try:
            self._look(time.monotonic())
        except Exception as error:  # the boundary: the server lives on, whatever is wrong with its shadow
            log.error("the shadow could not be looked after: %s", one_line(error))
            self._due = time.monotonic() + MAX_WAIT_S

    def begin_stop(self) -> None:
        """Tells the shadow to end, without waiting until it does; it is not started again."""
        self._stops = True
        if self._process is not None:
            self._process.terminate()

    def stop(self) -> None:
        """Ends the shadow at once; `begin_stop` gave it the time in which the workers drain."""
        self._stops = True
        if self._process is not None:
            self._process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(1.0)  # killed, it is gone in a moment

    def _look(self, now: float) -> None:
        if self._process is None:
            if now >= self._due and not self._stops:
                self._start(now)
        elif self._process.poll() is not None:
            self._ended(now)
        elif (problem := self._watch.problem(now)) is not None and not self._watch.has_ended_it:
            log.error("the shadow is ended, as it %s", problem)
            self._write(ended=problem)
            self._watch.has_ended_it = True
            self._process.kill()

    def _start(self, now: float) -> None:
        self._began, self._due = now, now + MAX_WAIT_S  # should this machine refuse another process
        self._write(starts=self._life.starts + 1, ended=None)
        command = [sys.executable, "-P", "-m", "serve.shadow.start"]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, env=self._environment())
        limit = int(self._settings.shadow_memory_mb * 1e6)
        self._watch = Watch(self._process.pid, report_file(self._folder), limit, now)

    def _ended(self, now: float) -> None:
        lived_long = now - self._began >= MAX_WAIT_S
        self._process, self._due = None, now + self._wait_s
        if not self._stops:
            text = "its process ended" if self._life.ended is None else self._life.ended
            log.error("the shadow ended; what is served is not concerned. It is started again in %.0f s", self._wait_s)
            self._write(ended=f"{text}; it is started again")
        self._wait_s = FIRST_WAIT_S if lived_long else min(2 * self._wait_s, MAX_WAIT_S)

    def _write(self, **changed: object) -> None:
        self._life = msgspec.structs.replace(self._life, **changed)
        with contextlib.suppress(OSError):  # on a full disk only the status page is behind
            write_file(life_file(self._folder), self._life)

    def _environment(self) -> dict[str, str]:
        """Its variables: the server's, but the workers' counters are none of its business."""
        others = {name: value for name, value in os.environ.items() if name != "PROMETHEUS_MULTIPROC_DIR"}
        ours = {RUN_FOLDER: str(self._folder), SERVER_PID: str(os.getpid()), START: str(self._life.starts)}
        return {**others, **self._settings.to_environment(), **ours}


def shown_shadow(reference: str) -> str:
    """The reference as clients may see it: of a folder only its name."""
    return Path(reference).absolute().name if is_artifact_folder(reference) else shown(reference)
