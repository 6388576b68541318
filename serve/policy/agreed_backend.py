"""`--backend auto`, chosen once per server: its workers give the same bits only when they run the same graph."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import Any

import msgspec

from carla_mlflow.artifact.artifact import Artifact
from carla_mlflow.inference.backend_choice import load_fastest
from carla_mlflow.inference.engine import Engine
from serve.run_folder import read_file, write_file
from serve.settings import Settings


class Choice(msgspec.Struct, frozen=True):
    """The backend that the first worker chose, and its measurements."""

    backend: str
    figures: dict[str, Any]


def load_agreed(artifact: Artifact, settings: Settings, folder: Path) -> tuple[Engine, dict[str, Any]]:
    """Loads the backend that the operator named; for `auto` the one that this server's first worker found faster.

    Args:
        artifact: verified.
        settings: of the server.
        folder: the server's run folder.

    Returns:
        The engine, and the measurements by which `auto` chose.

    Raises:
        ArtifactError, ParityError, DeviceError: as Engine.
    """
    if settings.backend != "auto":
        return Engine(artifact, settings.device, settings.backend, settings.trusted), {}
    path = folder / f"backend-{artifact.digest.removeprefix('sha256:')}.json"
    with open(folder / "backend.lock", "a") as lock:  # one measures while the others wait
        fcntl.flock(lock, fcntl.LOCK_EX)
        choice = read_file(path, Choice)
        if choice is not None:
            return Engine(artifact, settings.device, choice.backend, settings.trusted), choice.figures
        engine, figures = load_fastest(artifact, settings.device, settings.trusted)
        write_file(path, Choice(engine.backend, figures))
        return engine, figures
