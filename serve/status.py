"""What the follower tells the workers, as a small file."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import msgspec

STATUS_FILE = "POLICY_FOLLOW_STATUS"
"""The environment variable that names the follower's file."""
SERVER_PID = "POLICY_SERVER_PID"
"""The environment variable that says whose follower it is."""


class Status(msgspec.Struct, frozen=True):
    """What the follower knows.

    Attributes:
        path: of the verified artifact in the cache; None while there is none.
        digest: that it was verified against.
        version: semantic version.
        stage: candidate, staging, production or archived.
        registry: ok or unreachable.
        reason: why there is no artifact yet; fit for the wire.
        warning: what to know although there is one.
        refusal: the registry's own no, whole, for the terminal: there is nothing to wait for.
    """

    path: str | None = None
    digest: str | None = None
    version: str | None = None
    stage: str | None = None
    registry: str = "ok"
    reason: str | None = None
    warning: str | None = None
    refusal: str | None = None


def write_status(path: Path, status: Status) -> None:
    """Writes beside, then renames: a reader sees the old one or the new one."""
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    beside.write_bytes(msgspec.json.encode(status))
    os.replace(beside, path)


def read_status(path: Path) -> Status | None:
    """The status, or None when there is none that can be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Status)
    except (OSError, msgspec.DecodeError):
        return None
