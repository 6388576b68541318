"""Finds the artifact of a digest: in a folder that is named, in the cache of fetched ones, or in the registry."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from carla_mlflow.artifact.artifact import Artifact, open_artifact, sha256
from carla_mlflow.contract.strict_yaml import CARD_NAME
from carla_mlflow.errors import NotFoundError, RegistryError, UnreachableError
from registry.store.cache import cached_path, default_cache, fetch_to_cache
from serve.replay.registry_here import open_store

if TYPE_CHECKING:
    from registry.store.store import Store


class Artifacts:
    """Opens artifacts by digest.

    Attributes:
        store: the registry; None where none is configured or it does not answer.
    """

    def __init__(self, folders: Sequence[Path], store: Store | None) -> None:
        """`folders`: each an artifact, or a folder of artifacts."""
        self._folders, self.store = folders, store

    @classmethod
    def usual(cls, folders: Sequence[Path]) -> Artifacts:
        """With the registry that is configured here, if it answers."""
        return cls(folders, open_store())

    def open(self, digest: str, name: str) -> Artifact:
        """Opens the artifact with this digest; `name` is the policy's, under which the registry may have it.

        Raises:
            NotFoundError: it is nowhere.
            ArtifactError: what is there is damaged.
        """
        for folder in self._candidates():
            card = folder / CARD_NAME
            if card.is_file() and sha256(card.read_bytes()) == digest:
                return open_artifact(folder, digest)
        cached = cached_path(default_cache(), digest)
        if cached.is_dir():
            return open_artifact(cached, digest)
        found = self._in_registry(digest, name)
        if found is None:
            places = ["the cache", *map(str, self._folders), *(["the registry"] if self.store else [])]
            raise NotFoundError(f"{name} {digest} is not in {', '.join(places)}; name a folder with --artifacts")
        return found

    def _candidates(self) -> Iterator[Path]:
        for folder in self._folders:
            yield folder
            yield from sorted(path for path in folder.glob("*") if path.is_dir())

    def _in_registry(self, digest: str, name: str) -> Artifact | None:
        if self.store is None:
            return None
        try:
            versions = [version for version in self.store.versions(name) if version.digest == digest]
        except (RegistryError, UnreachableError):
            return None
        return fetch_to_cache(self.store, versions[0], default_cache()) if versions else None
