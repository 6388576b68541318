"""Filling the slot: in a thread, so that the server is alive while it is not ready yet."""

from __future__ import annotations

import contextlib
import importlib
import logging
import threading
import time
from pathlib import Path

from serve.following import Following
from serve.loading import Failure, load
from serve.settings import Settings
from serve.slot import Slot
from serve.status import worker_states

LONGEST_HOLD_S = 5.0
"""How long a new worker leaves the connections to the others while it loads."""

log = logging.getLogger("serve")


def start_filling(slot: Slot, settings: Settings, status_file: Path) -> None:
    """Fills this worker's slot, and keeps it in line with the registry.

    While other workers serve, one that has nothing yet takes no connections, for a while.
    """
    target = fill_from_folder if settings.is_folder else follow
    threading.Thread(target=target, args=(slot, settings, status_file), name="fill-slot", daemon=True).start()
    if any(state.served for state in worker_states(slot.folder)):
        ends = time.monotonic() + LONGEST_HOLD_S
        while slot.serving is None and time.monotonic() < ends:
            time.sleep(0.01)


def fill_from_folder(slot: Slot, settings: Settings, _: Path) -> None:
    """Loads the folder that `model` names."""
    loaded = load(Path(settings.model), settings.digest or None, settings, slot.folder)
    if isinstance(loaded, Failure):
        slot.reason = loaded.reason
        log.error("not ready: %s", slot.reason)
    else:
        slot.serve(0, loaded, None)
        slot.publish()


def follow(slot: Slot, settings: Settings, status_file: Path) -> None:
    """Serves what the follower finds, for ever."""
    slot.reason = f"waiting for the registry to resolve {settings.model}"
    # The follower is importing mlflow on another core; so long this one imports what a policy will probably need.
    with contextlib.suppress(ImportError):  # not installed: the policy itself will say if it is missed
        importlib.import_module("torch" if settings.backend == "torchscript" else "carla_mlflow.onnx_backend")
    Following(slot, settings, status_file).run()
