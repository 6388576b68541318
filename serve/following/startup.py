"""Fills the slot in a thread, so that the server already answers while it is not ready."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from registry.rules.reference import parse_reference
from serve.following.attempts import FIRST_WAIT_S, MAX_WAIT_S
from serve.following.trial import load_carefully
from serve.following.worker_side import Following
from serve.policy.loading import Failure, failure_of, import_backend
from serve.policy.serving import Serving
from serve.policy.slot import Slot
from serve.run_folder import ready_workers
from serve.settings import Settings

log = logging.getLogger("serve")


def start_filling(slot: Slot, settings: Settings, status_file: Path) -> None:
    """Starts the thread that fills this worker's slot, and keeps it up to date with the registry."""
    target = fill_from_folder if settings.is_folder else follow
    threading.Thread(target=target, args=(slot, settings, status_file), name="fill-slot", daemon=True).start()


def leave_to_others(slot: Slot, alive: Callable[[], None]) -> None:
    """Waits until this worker is ready or no other worker of this server is; until then it takes no connections.

    Args:
        slot: of this worker, which another thread fills.
        alive: the heartbeat of this process, called repeatedly.
    """
    while not slot.ready and not slot.draining and ready_workers(slot.folder):
        alive()
        time.sleep(0.02)


def fill_from_folder(slot: Slot, settings: Settings, _: Path) -> None:
    """Loads the folder that `model` names; retries after a failure that may pass, such as too little memory."""
    wait_s = FIRST_WAIT_S
    while isinstance(loaded := _load_folder(slot, settings), Failure):
        if slot.reason != loaded.reason:
            slot.reason = loaded.reason
            log.error("not ready: %s", slot.reason)
        if loaded.kind in ("integrity", "parity"):  # another try would fail in the same way
            return
        time.sleep(wait_s if loaded.wait_s is None else loaded.wait_s)
        wait_s = min(2 * wait_s, MAX_WAIT_S)
    slot.serve(0, loaded, None)
    slot.publish()
    log.info("serving %s %s (%s)", loaded.card.name, loaded.version, loaded.digest)


def _load_folder(slot: Slot, settings: Settings) -> Serving | Failure:
    try:
        return load_carefully(Path(settings.model), settings.digest or None, settings, slot.folder)
    except Exception as error:  # the thread's boundary: a full disk or a failed fork would go unnoticed
        log.exception("%s could not be loaded", settings.model)
        return failure_of(error)


def follow(slot: Slot, settings: Settings, status_file: Path) -> None:
    """Serves what the follower finds; never returns."""
    if settings.follows_folder:
        slot.reason = f"looking for {parse_reference(settings.model).shown}"
    else:
        slot.reason = f"waiting for the registry to resolve {settings.model}"
    # While the follower imports mlflow on another core, this process imports what a policy will probably need.
    with contextlib.suppress(ImportError):  # not installed: loading reports it if the policy needs it
        import_backend(settings.backend if settings.backend in ("torchscript", "openvino") else "onnx")
    Following(slot, settings, status_file).run()
