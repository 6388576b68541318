"""Stores what was served last: in the cache for the next start, and in the run folder for new workers."""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
from pathlib import Path

import msgspec

from carla_mlflow.artifact.naming import split_folder_reference
from carla_mlflow.escaping import one_line
from registry.store.cache import default_cache
from serve.run_folder import Status, read_file, write_file
from serve.settings import Settings

log = logging.getLogger("serve")


class Good(msgspec.Struct, frozen=True):
    """What a reference is served as in this server, and the contract that it keeps until the server is restarted.

    The status is empty where only the contract is known, from another machine of a cluster.
    """

    status: Status
    contract: str


def cache_folder(settings: Settings) -> Path:
    """The folder for fetched artifacts."""
    return Path(settings.cache_dir) if settings.cache_dir else default_cache()  # the same default in every command


def recall(settings: Settings, reference: str) -> Status | None:
    """Returns what the reference was served as last on this machine, without verifying it."""
    status = read_file(_memory_file(settings, reference), Status)
    return status if status and status.path and status.digest else None


def remember(settings: Settings, reference: str, status: Status) -> None:
    """Stores what the reference is served as for the next start; only warns if the cache can't be written."""
    path = _memory_file(settings, reference)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_file(path, status)
    except OSError as error:
        log.warning("could not remember what is served, so the next start can't begin with it: %s", one_line(error))


def good_file(folder: Path, index: int) -> Path:
    """Path of the file that says what reference `index` is served as."""
    return folder / f"good-{index}.json"


def read_good(folder: Path, index: int) -> Good | None:
    """Returns what reference `index` is served as in this server; None before a worker serves it."""
    return read_file(good_file(folder, index), Good)


def agree(folder: Path, index: int, status: Status, contract: str) -> bool:
    """Stores what reference `index` is served as; returns False if this server serves it under another contract.

    The first worker with a policy to serve determines the contract, until the server is restarted.
    """
    with open(folder / "good.lock", "a") as lock:  # released when the file is closed
        fcntl.flock(lock, fcntl.LOCK_EX)
        good = read_good(folder, index)
        if good is not None and good.contract != contract:
            return False
        if good is None or good.status != status:
            write_file(good_file(folder, index), Good(status, contract))
        return True


def _memory_file(settings: Settings, reference: str) -> Path:
    folder = split_folder_reference(reference)
    named = f"{Path(folder[0]).absolute()}/@{folder[1]}" if folder else f"{_where()}\n{reference}"
    key = hashlib.sha256(named.encode()).hexdigest()
    return cache_folder(settings) / "references" / f"{key}.json"


def _where() -> str:
    """Identifies the registry by the environment, and by the working folder if a SQLite file may be relative to it."""
    uri = os.environ.get("MLFLOW_REGISTRY_URI") or os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:"
    return f"{uri} {Path.cwd()}" if uri.startswith("sqlite:") else uri
