"""What a server that follows a folder of artifacts finds out before it starts."""

from __future__ import annotations

import os
from pathlib import Path

from carla_mlflow.errors import RefusedError
from registry.rules.pins import PINS
from registry.rules.reference import parse_reference
from registry.store.artifact_folder import ArtifactFolder
from serve.following.last_served import recall
from serve.settings import Settings


def folder_problem(settings: Settings) -> str | None:
    """Returns a message when a folder that `model` or `also` names can't be followed from the start, or None.

    A missing folder is no problem if a version from it was served last: the server starts with that one.
    """
    for text in filter(None, settings.references):
        reference = parse_reference(text)
        if not Path(reference.name).is_dir():
            if recall(settings, text) is None:
                return f"{reference.name}: there is no such folder"
        elif reference.kind == "alias":
            try:
                ArtifactFolder(reference.name).resolve(reference)
            except RefusedError as error:
                return str(error)
    return None


def is_unpinned(settings: Settings) -> bool:
    """Whether anyone who can write the folder that `model` names decides what drives."""
    folder = parse_reference(settings.model).name
    return not settings.digest and not os.path.lexists(Path(folder) / PINS)
