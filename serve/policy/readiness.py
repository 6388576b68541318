"""Whether this server is ready: during startup once all workers are; after that each worker answers for itself."""

from __future__ import annotations

from serve.errors import ApiError
from serve.policy.slot import Slot
from serve.run_folder import note_start, ready_workers


def check_ready(slot: Slot) -> None:
    """Raises ApiError `not_ready`, with a message that says what the server waits for."""
    if not slot.ready:
        raise ApiError("not_ready", slot.waits_for)
    if slot.workers > 1 and not note_start(slot.folder, slot.workers):
        raise ApiError("not_ready", f"starting: {ready_workers(slot.folder)} of {slot.workers} workers are ready")
