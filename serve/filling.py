"""Filling the slot: in a thread, so that the server is alive while it is not ready yet."""

from __future__ import annotations

import contextlib
import importlib
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

from serve.settings import Settings
from serve.slot import Slot
from serve.status import SERVER_PID, STATUS_FILE, read_status

LOOK_S = 0.05
"""How often a worker looks at the follower's file while it has nothing to serve."""


def start_follower(status_file: Path, settings: Settings) -> subprocess.Popen[bytes]:
    """Starts the follower beside the server; it ends when its parent does."""
    ours = {STATUS_FILE: str(status_file), SERVER_PID: str(os.getpid())}
    return subprocess.Popen(
        [sys.executable, "-m", "serve.follow"], env={**os.environ, **settings.to_environment(), **ours}
    )


def start_filling(slot: Slot, settings: Settings, status_file: Path) -> None:
    """Fills this worker's slot."""
    target = fill_from_folder if settings.is_folder else fill_from_follower
    threading.Thread(target=target, args=(slot, settings, status_file), name="fill-slot", daemon=True).start()


def fill_from_folder(slot: Slot, settings: Settings, _: Path) -> None:
    """Loads the folder that `model` names."""
    slot.load(Path(settings.model), settings.digest or None, settings)


def fill_from_follower(slot: Slot, settings: Settings, status_file: Path) -> None:
    """Waits until the follower has an artifact that loads."""
    slot.reason = f"waiting for the registry to resolve {settings.model}"
    # The follower is importing mlflow on another core; so long this one imports what a policy will probably need.
    with contextlib.suppress(ImportError):  # not installed: the policy itself will say if it is missed
        importlib.import_module("torch" if settings.backend == "torchscript" else "carla_mlflow.onnx_backend")
    seen = None
    while True:
        status = read_status(status_file)
        if status is not None and status != seen:
            seen = status
            slot.registry, slot.warning = status.registry, status.warning
            if status.path and status.digest:
                if slot.load(Path(status.path), status.digest, settings, status.stage):
                    return
            elif status.reason:
                slot.reason = status.reason
        time.sleep(LOOK_S)
