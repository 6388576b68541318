"""Starts a toy world in a process of its own, and looks into it."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType

TESTS = Path(__file__).parent.parent


class ToyCarla:
    """A simulator for `carla.Client(toy.host, toy.port)`, as a context manager.

    It is a process, not a thread: several calls of carla's Python API, `Sensor.listen` among them, hold the
    interpreter's lock while they wait, so that a server in the same interpreter could never answer.

    Attributes:
        host: where it listens.
        port: for calls.
    """

    def __init__(self, town: str = "ring", version: str = "0.9.16", port: int = 0) -> None:
        """Prepares a simulator; `with` starts it.

        Args:
            town: in which it begins: ring or crossing.
            version: which it says it has.
            port: for calls; 0 takes a free one.
        """
        self.host, self.port = "127.0.0.1", port
        self._options = ["--town", town, "--version", version]
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Starts it, also once more after `kill`: on the same port, in a new world."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "toy_carla", "--with-parent", "--port", str(self.port), *self._options],
            cwd=TESTS,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        found = re.search(r":(\d+), streams on \d+$", line.strip())
        if found is None:
            self.kill()
            raise RuntimeError(f"the toy world did not start: {line!r}")
        self.port = int(found[1])

    def kill(self) -> None:
        """Ends it at once, as a crash would: connections break, nobody says goodbye."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.communicate()
            self._process = None

    def __enter__(self) -> ToyCarla:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
