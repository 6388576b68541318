"""Remembers the versions that a process refused, and when each may be tried again."""

from __future__ import annotations

import time
from dataclasses import dataclass

from serve.run_folder import Kind, Refused

FIRST_WAIT_S, MAX_WAIT_S = 1.0, 60.0
MAX_REFUSALS = 32
"""Most refusals that are remembered."""


@dataclass
class _Entry:
    refused: Refused
    wait_s: float
    again_at: float


class Refusals:
    """The versions refused lately by one process, each with a growing wait before it is tried again."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}

    def add(
        self, version: str, digest: str, reason: str, kind: Kind, wait_s: float | None = None, key: str = ""
    ) -> bool:
        """Remembers a refusal.

        Args:
            version: semantic version.
            digest: of its artifact.
            reason: a message, safe to send to clients.
            kind: category of the reason.
            wait_s: seconds until it may be tried again; infinity: not before a restart; None: longer each time.
            key: what it is remembered by in the place of a digest.

        Returns:
            Whether the version was not refused before, or for another reason.
        """
        key = key or digest
        before = self._entries.pop(key, None)
        if wait_s is None:
            wait_s = min(before.wait_s * 2, MAX_WAIT_S) if before else FIRST_WAIT_S
        since = before.refused.since if before and before.refused.kind == kind else time.time()
        again_at = time.monotonic() + wait_s
        self._entries[key] = _Entry(Refused(version, digest, reason, kind, since), wait_s, again_at)
        while len(self._entries) > MAX_REFUSALS:
            del self._entries[next(iter(self._entries))]
        return before is None or before.refused.reason != reason

    def forgive(self, digest: str) -> None:
        """Forgets a digest that is accepted now."""
        self._entries.pop(digest, None)

    def __contains__(self, digest: str) -> bool:
        return digest in self._entries

    def is_due(self, digest: str) -> bool:
        """Whether a digest may be tried now."""
        entry = self._entries.get(digest)
        return entry is None or time.monotonic() >= entry.again_at

    def reason(self, digest: str) -> str | None:
        """Returns why a digest is refused, or None."""
        entry = self._entries.get(digest)
        return entry.refused.reason if entry else None

    def listed(self) -> tuple[Refused, ...]:
        """Lists the refusals, oldest first."""
        return tuple(entry.refused for entry in self._entries.values())
