"""Forged artifacts: what someone who can write the folder can make."""

from __future__ import annotations

import io
from pathlib import Path

import torch

from carla_mlflow import Artifact
from carla_mlflow.artifact.artifact import seal


def with_files(artifact: Artifact, **changed: bytes) -> Artifact:
    """The artifact with other files, its card rewritten to fit: what someone who can write the folder can make."""
    files = {name: artifact.files[name] for name in artifact.card.files}
    return seal(artifact.card, files | {name.replace("_", "."): data for name, data in changed.items()})


class Canary:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def script(module: torch.nn.Module) -> bytes:
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(module), buffer)
    return buffer.getvalue()


def write(artifact: Artifact, folder: Path) -> Path:
    folder.mkdir()
    for name, data in artifact.files.items():
        (folder / name).write_bytes(data)
    return folder
