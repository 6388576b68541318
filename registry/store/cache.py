"""Cache of fetched artifacts on this machine, one folder per digest; each is verified when fetched and when opened."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

from carla_mlflow.artifact.artifact import Artifact, open_artifact
from carla_mlflow.artifact.folder import PARTIAL
from carla_mlflow.errors import ArtifactError, CacheError, IntegrityError

if TYPE_CHECKING:  # a server that starts from its cache does not import mlflow
    from registry.rules.policy_version import PolicyVersion
    from registry.store.version_source import VersionSource


ABANDONED_S = 3600
"""A partial folder older than this, in seconds, was abandoned: no download takes so long."""


_FULL = {errno.ENOSPC, errno.EDQUOT}


def default_cache() -> Path:
    """$POLICY_CACHE_DIR, else carla-mlflow in the user's cache folder; an empty variable counts as unset.

    Raises:
        CacheError: this user has no home folder.
    """
    if named := os.environ.get("POLICY_CACHE_DIR"):
        return Path(named)
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not base.is_absolute():  # the XDG base directory specification ignores such a value
        try:
            base = Path.home() / ".cache"
        except RuntimeError as error:
            raise CacheError("~/.cache", "this user has no home folder") from error
    return base / "carla-mlflow"


def cached_path(cache: Path, digest: str) -> Path:
    """The folder of the artifact with that digest, cached or not."""
    return cache / "artifacts" / digest.removeprefix("sha256:")


def fetch_to_cache(source: VersionSource, version: PolicyVersion, cache: Path) -> Artifact:
    """Opens a version's artifact, downloaded if not cached, and verified against the digest that the registry pins.

    Raises:
        IntegrityError: the registry holds something else than was registered; it is not kept.
        CacheError: the cache is full, read-only, or can't be created.
    """
    if not version.digest.startswith("sha256:"):
        raise IntegrityError(f"{version.name} {version.semver}: the registry pins no digest for it")
    path = cached_path(cache, version.digest)
    if path.exists():
        try:
            return open_artifact(path, version.digest)
        except ArtifactError:
            _remove(path, cache)  # damaged on this machine; the registry's may be intact
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise _cache_error(cache, error) from error
    try:
        source.fetch(version, path)
    except OSError as error:
        if not path.exists():  # else another process fetched it; it is verified below
            if error.errno in _FULL or str(error.filename).startswith(str(path.parent)):
                raise _cache_error(cache, error) from error
            raise
    try:
        return open_artifact(path, version.digest)
    except ArtifactError:
        shutil.rmtree(path, ignore_errors=True)
        raise


def _remove(path: Path, cache: Path) -> None:
    try:
        shutil.rmtree(path)
    except OSError as error:
        raise _cache_error(cache, error) from error


def _cache_error(cache: Path, error: OSError) -> CacheError:
    if error.errno in _FULL:
        return CacheError(str(cache), f"the cache is full ({error.strerror})", is_full=True)
    return CacheError(str(cache), f"the cache can't be written ({error.strerror})")


def partial_folders(cache: Path, digest: str) -> list[Path]:
    """The folders in which an artifact with that digest is being fetched, or was when the process died."""
    path = cached_path(cache, digest)
    return list(path.parent.glob(f".{path.name}.*{PARTIAL}"))


def fetched_bytes(cache: Path, digest: str) -> int:
    """How many bytes of an artifact that is being fetched have arrived."""
    return sum(folder_bytes(folder) for folder in partial_folders(cache, digest))


def folder_bytes(folder: Path) -> int:
    """The bytes of all files in a folder; what is moved or removed in the meantime does not count."""
    total = 0
    for inside, _, names in os.walk(folder):  # which leaves out folders that are gone; rglob raises
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(inside, name)).st_size
    return total


def unreferenced(cache: Path) -> list[Path]:
    """Cached artifacts that no server would start from, as none of the remembered references names them.

    A folder that is being written is not included; one left half-written by a killed process is, after an hour.
    """
    remembered = "".join(file.read_text() for file in cache.glob("references/*.json"))
    folders = (path for path in sorted(cache.glob("artifacts/*")) if path.is_dir())
    unnamed = (path for path in folders if path.name not in remembered)
    return [path for path in unnamed if path.suffix != PARTIAL or _is_abandoned(path)]


def _is_abandoned(folder: Path) -> bool:
    try:
        return time.time() - folder.stat().st_mtime > ABANDONED_S
    except FileNotFoundError:  # it has come, under its own name
        return False
