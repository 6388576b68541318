"""A carla-serve for a benchmark, and its processes."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import psutil

from benchmarks.support.connection import Address, ask
from benchmarks.support.free_port import free_port
from benchmarks.support.processes import tree
from benchmarks.support.requests import get_request
from benchmarks.support.server import BIN, Server

READYZ = get_request("/readyz")


class OurServer(Server):
    """A context manager: the server is ready when entered, and stopped when left.

    `process` is gunicorn's master, or the command that it was started through.
    """

    def __init__(
        self,
        *flags: str,
        through: tuple[str, ...] = (),
        request: bytes = READYZ,
        environment: dict[str, str] | None = None,
        folder: Path | None = None,
        is_quiet: bool = True,
        socket: Path | None = None,
    ) -> None:
        """Prepares it.

        Args:
            flags: of carla-serve.
            through: a command to start it through, such as unshare with flags.
            request: the server has started once it answers this.
            environment: environment variables beside this process's own.
            folder: its working folder; by default this process's own.
            is_quiet: whether its errors are thrown away.
            socket: where it listens instead of a port.
        """
        address: Address = socket or free_port()
        where = ("--host", f"unix:{socket}") if socket else ("--port", str(address))
        command = [*through, str(BIN / "carla-serve"), *where, "--log-level", "error", *flags]
        variables = {**os.environ, **(environment or {})}
        super().__init__(command, address, request, environment=variables, folder=folder, is_quiet=is_quiet)

    def is_ready(self) -> bool:
        with contextlib.suppress(OSError, ValueError):
            return ask(self.port, READYZ, timeout_s=5).status == 200
        return False

    def workers(self) -> list[psutil.Process]:
        """The worker processes; empty when the server is gone."""
        found = []
        with contextlib.suppress(psutil.Error, StopIteration):
            for each in self.master().children():
                with contextlib.suppress(psutil.Error):  # ended in the meantime
                    found += [each] if " -m serve." not in " ".join(each.cmdline()) else []
        return found

    def master(self) -> psutil.Process:
        """Gunicorn's master process, also when it was started through another command."""
        return next(each for each in tree(self.process.pid) if "carla-serve" in " ".join(each.cmdline()[:2]))

    def signal_master(self, number: int) -> None:
        """Sends a signal to gunicorn's master alone."""
        self.master().send_signal(number)
