"""Opens what an argument names: an artifact's folder, or a version of the registry or of a folder of artifacts."""

from __future__ import annotations

from pathlib import Path

from carla_mlflow.artifact.artifact import Artifact, open_artifact
from carla_mlflow.artifact.naming import is_artifact_folder
from registry.rules.reference import Reference, parse_reference
from registry.store.artifact_folder import ArtifactFolder
from registry.store.cache import fetch_to_cache
from registry.store.version_source import VersionSource


def source_of(reference: Reference) -> VersionSource:
    """The source that knows a reference's versions."""
    if reference.is_folder:
        return ArtifactFolder(reference.name)
    from registry.store.store import Store  # imports mlflow, which takes longer than everything else here

    return Store()


def open_source(text: str, cache: Path) -> Artifact:
    """Opens the artifact in a folder, or fetches what a reference means now."""
    if is_artifact_folder(text):
        return open_artifact(Path(text))
    reference = parse_reference(text)
    source = source_of(reference)
    return fetch_to_cache(source, source.resolve(reference), cache)
