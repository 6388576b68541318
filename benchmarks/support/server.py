"""Starts a server process, waits until it answers, and stops it with all of its processes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

from benchmarks.support.connection import Address, ask
from benchmarks.support.responses import Response

BIN = Path(sys.executable).parent
"""Where our commands and MLflow's are installed."""
START_S, STOP_S, PAUSE_S = 120.0, 30.0, 0.01
ANSWER_S = 5.0
"""How long one request may take while the server starts."""


class Server:
    """A context manager: the server has answered when entered, and is stopped when left.

    Attributes:
        port: the server's, on 127.0.0.1, or the path of its Unix socket.
        process: the first process, which leads a process group of its own.
        started_s: seconds from its start to its first answer.
        first: that answer; its status is below 500, and whoever needs more checks it.
    """

    process: subprocess.Popen[bytes]
    started_s: float
    first: Response

    def __init__(
        self,
        command: list[str],
        port: Address,
        request: bytes,
        *,
        environment: dict[str, str] | None = None,
        folder: Path | None = None,
        log: Path | None = None,
        is_quiet: bool = True,
    ) -> None:
        """Prepares it.

        Args:
            command: the program and its flags.
            port: where it will listen: a port, or the path of a Unix socket.
            request: a whole HTTP request; the server has started once it answers this.
            environment: environment variables, all of them; by default this process's own.
            folder: its working folder; by default this process's own.
            log: a file to which everything that it prints is added.
            is_quiet: whether, without a log, its errors are thrown away.
        """
        self.port, self._command, self._request = port, command, request
        self._environment, self._folder, self._log, self._is_quiet = environment, folder, log, is_quiet

    def start(self) -> None:
        """Starts it, also after it was killed, and waits until it answers; raises RuntimeError when it does not."""
        began = time.perf_counter()
        self._launch()
        while time.perf_counter() - began < START_S and self.process.poll() is None:
            with contextlib.suppress(OSError, ValueError):
                self.first = ask(self.port, self._request, ANSWER_S)
                if self.first.status < 500:
                    self.started_s = time.perf_counter() - began
                    return
            time.sleep(PAUSE_S)
        code = self.process.poll()
        self.stop()
        why = f"gave no answer within {START_S:g} s" if code is None else f"ended with exit code {code}"
        log = f":\n{self._log.read_text()[-6000:]}" if self._log else ""
        raise RuntimeError(f"{' '.join(self._command)}: {why}{log}")

    def _launch(self) -> None:
        with contextlib.ExitStack() as stack:
            log = stack.enter_context(open(self._log, "ab")) if self._log else None
            errors = log or (subprocess.DEVNULL if self._is_quiet else None)
            self.process = subprocess.Popen(
                self._command,
                stdout=log,
                stderr=errors,
                cwd=self._folder,
                env=self._environment,
                process_group=0,  # of its own, for `signal`; in our session, as Linux shares processors among those
            )

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to all of its processes, such as SIGSTOP, SIGCONT or SIGKILL."""
        os.killpg(self.process.pid, number)

    def stop(self) -> None:
        """Sends SIGTERM, waits up to STOP_S until the first process has ended, and kills what is left."""
        with contextlib.suppress(ProcessLookupError):
            self.signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_S)
        self.kill()

    def kill(self) -> None:
        """Sends SIGKILL, which also ends a stopped server."""
        with contextlib.suppress(ProcessLookupError):
            self.signal(signal.SIGKILL)
        self.process.wait()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
