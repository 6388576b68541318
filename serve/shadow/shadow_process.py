"""Runs the shadow as a process beside the server; ends it where it takes too much or hangs, and starts it again.

The server's master process looks at it once a second, which takes microseconds and waits for nothing. Workers have
nothing to do with it: it reads what they leave in their rings.
"""

from __future__ import annotations

import contextlib
import logging
import subprocess
import time
from pathlib import Path

import msgspec

from carla_mlflow.artifact.naming import is_artifact_folder
from carla_mlflow.escaping import one_line
from registry.rules.reference import shown
from serve.folder_lock import hold, remove_unused
from serve.kept_process import KeptProcess
from serve.record.start import rings_folder
from serve.run_folder import read_file, write_file
from serve.settings import Settings
from serve.shadow.watch import Watch
from serve.telemetry.shadow_report import STARTING, ShadowLife, life_file, report_file

RUN_FOLDER = "POLICY_SHADOW_RUN_FOLDER"
"""Environment variable with the path of the server's run folder, for the shadow's process."""
START = "POLICY_SHADOW_START"
"""Environment variable with how often the shadow was started, for its process."""
ENDED = "its process ended; it is started again"

log = logging.getLogger("serve")


class ShadowProcess(KeptProcess):
    """Starts, watches and restarts the shadow."""

    def __init__(self, settings: Settings, run_folder: Path) -> None:
        """Starts it; `settings` and `run_folder` are the server's."""
        path = life_file(run_folder)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        new = ShadowLife(shown_shadow(settings.shadow), settings.shadow_share, time.time(), ended=STARTING)
        self._life = read_file(path, ShadowLife) or new  # of a node whose first process was replaced
        self._limit = int(settings.shadow_memory_mb * 1e6)
        self._stops, self._rings = False, rings_folder(run_folder)
        self._in_use = hold(self._rings)
        text = "the shadow's process ended; what is served goes on"
        super().__init__(settings, run_folder, "serve.shadow.start", {RUN_FOLDER: str(run_folder)}, text)

    @property
    def is_done(self) -> bool:
        return self._stops

    def keep_alive(self) -> None:
        """Starts the shadow again when it is due, and ends it where it must be; raises nothing, waits for nothing."""
        try:
            problem = self._watch.problem(time.monotonic())
            if problem is not None and self._life.ended is None:
                log.error("the shadow is ended, as it %s", problem)
                self._write(ended=problem)
                self._process.kill()
            super().keep_alive()
        except Exception as error:  # the boundary: the server lives on, whatever is wrong with its shadow
            log.error("the shadow could not be looked after: %s", one_line(error))

    def begin_stop(self) -> None:
        """Tells the shadow to end, which has the time in which the workers drain."""
        self._stops = True
        self._process.terminate()

    def stop(self, wait_s: float = 0.0) -> None:
        """Ends the shadow at once."""
        self._stops = True
        self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)  # killed, it is gone in a moment
        self._in_use.close()
        remove_unused(self._rings)

    def _note_end(self) -> None:
        """Its counters are in its report, not among the workers'."""
        if self._life.ended is None:
            self._write(ended=ENDED)

    def _start(self) -> subprocess.Popen[bytes]:
        self._write(starts=self._life.starts + 1, ended=None)
        self._variables[START] = str(self._life.starts)
        process = super()._start()
        self._watch = Watch(process.pid, report_file(self._folder), self._limit, time.monotonic())
        return process

    def _write(self, **changed: object) -> None:
        self._life = msgspec.structs.replace(self._life, **changed)
        with contextlib.suppress(OSError):  # on a full disk only the status page is behind
            write_file(life_file(self._folder), self._life)


def shown_shadow(reference: str) -> str:
    """The reference as clients may see it: of a folder only its name."""
    return Path(reference).absolute().name if is_artifact_folder(reference) else shown(reference)
