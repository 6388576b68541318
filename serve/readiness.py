"""Whether this server may be sent requests: at its start once every worker is ready, afterwards while this one is."""

from __future__ import annotations

import contextlib
from pathlib import Path

from serve.errors import ApiError
from serve.slot import Slot
from serve.status import worker_states

STARTED = "started"
"""A file in the server's run folder: every worker has been ready."""


def check_ready(slot: Slot) -> None:
    """Raises ApiError not_ready, with what is waited for."""
    if not slot.ready:
        raise ApiError("not_ready", slot.waits_for)
    started = slot.folder / STARTED
    if slot.workers > 1 and not started.exists():
        if (ready := ready_workers(slot.folder)) < slot.workers:
            raise ApiError("not_ready", f"starting: {ready} of {slot.workers} workers are ready")
        with contextlib.suppress(OSError):  # a disk that is full: the next probe counts again
            started.touch()


def ready_workers(folder: Path) -> int:
    """How many processes of a server are ready. Args: its run folder."""
    return sum(state.ready for state in worker_states(folder))
