"""Whether more is read from a connection, and what holds it up."""

from __future__ import annotations

import asyncio


class FlowControl:
    """Pauses and resumes reading from one client.

    Attributes:
        transport: of the connection, once there is one.
        is_paused: nothing is read for now.
        writes_are_full: the client does not read its responses.
        found_full: the request that was read last got 429.
        rests: because of that, reading pauses for a moment.
    """

    __slots__ = ("found_full", "is_paused", "rests", "transport", "writes_are_full")

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.is_paused = False
        self.writes_are_full = False
        self.found_full = False
        self.rests = False

    def pause(self) -> None:
        """Stops reading until `resume`."""
        if not self.is_paused:
            self.is_paused = True
            self.transport.pause_reading()

    def resume(self) -> None:
        """Reads again."""
        if self.is_paused:
            self.is_paused = False
            self.transport.resume_reading()

    @property
    def may_resume(self) -> bool:
        """Whether reading is paused and nothing but waiting requests holds it up."""
        return self.is_paused and not self.writes_are_full and not self.rests
