"""Starts a carla-serve for a benchmark, waits until it is ready, finds its processes, and stops it."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from benchmarks.free_port import free_port
from benchmarks.wrk import ask

READY_S, STOP_S = 60.0, 30.0
READYZ = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


class OurServer:
    """A context manager: the server is ready when entered, and stopped when left.

    Attributes:
        process: gunicorn's master, or the command that it was started through.
        port: the server's, on 127.0.0.1.
    """

    def __init__(self, *flags: str, through: tuple[str, ...] = ()) -> None:
        """Args: flags of carla-serve; a command to start it through, such as unshare with flags."""
        self.port = free_port()
        program = str(Path(sys.executable).parent / "carla-serve")
        self._command = [*through, program, "--port", str(self.port), "--log-level", "error", *flags]

    def __enter__(self) -> OurServer:
        self.process = subprocess.Popen(self._command, stderr=subprocess.DEVNULL)
        ends = time.monotonic() + READY_S
        while time.monotonic() < ends and self.process.poll() is None:
            if self.is_ready():
                return self
            time.sleep(0.05)
        self.__exit__()
        raise RuntimeError(f"{' '.join(self._command)}: not ready after {READY_S:g} s, or ended")

    def __exit__(self, *_: object) -> None:
        """Stops it, and every child process."""
        processes = [self.process, *self._below()]
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_S)
        for process in processes:
            with contextlib.suppress(psutil.Error, ProcessLookupError):
                process.kill()

    def is_ready(self) -> bool:
        with contextlib.suppress(OSError):
            return ask(self.port, READYZ, timeout_s=5)[0] == 200
        return False

    def workers(self) -> list[psutil.Process]:
        """The worker processes; empty when the server is gone."""
        found = []
        with contextlib.suppress(psutil.Error, StopIteration):
            for each in self.master().children():
                with contextlib.suppress(psutil.Error):  # ended in the meantime
                    found += [each] if "serve.following.follower" not in " ".join(each.cmdline()) else []
        return found

    def master(self) -> psutil.Process:
        """Gunicorn's master process, also when it was started through another command."""
        found = [psutil.Process(self.process.pid), *self._below()]
        return next(each for each in found if "carla-serve" in " ".join(each.cmdline()[:2]))

    def signal(self, number: int) -> None:
        """Sends a signal to the master."""
        self.master().send_signal(number)

    def _below(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.Error):
            return psutil.Process(self.process.pid).children(recursive=True)
        return []
