"""Defers Ctrl-C and SIGTERM to points where what runs can stop safely."""

from __future__ import annotations

import os
import signal
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupt:
    """A context manager, for the main thread: a signal in its block is kept until somebody asks for it.

    An exception that Python raises at once would come between a call to the simulator and the note of what it did, such
    as an actor that nobody would destroy; between a question to another process and its answer; or in the midst of
    tidying up.

    Attributes:
        is_asked: whether a signal has come.
    """

    def __init__(self, said: str) -> None:
        """`said` is printed when the first signal comes: what happens now."""
        self._said = said.encode() + b"\n"
        self.is_asked = False
        self._before: dict[signal.Signals, Any] = {}

    def check(self) -> None:
        """Raises KeyboardInterrupt if a signal has come."""
        if self.is_asked:
            raise KeyboardInterrupt

    def __enter__(self) -> Interrupt:
        self._before = {each: signal.signal(each, self._hear) for each in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each, handler in self._before.items():
            signal.signal(each, handler)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if not self.is_asked:
            os.write(2, self._said)  # print is not for signal handlers
        self.is_asked = True
