"""What was served last, kept for the next start: beside the artifacts in the cache, and in the server's run folder."""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
from pathlib import Path

import msgspec

from carla_mlflow.escaping import one_line
from registry.store.cache import default_cache
from serve.run_folder import Status, read_file, write_file
from serve.settings import Settings

log = logging.getLogger("serve")


class Good(msgspec.Struct, frozen=True):
    """What a reference is served as in this server, and the contract that it keeps until it is started again.

    The status is empty where only the contract is known: by another machine of a cluster.
    """

    status: Status
    contract: str


def cache_folder(settings: Settings) -> Path:
    """Where this server keeps what was fetched."""
    return Path(settings.cache_dir) if settings.cache_dir else default_cache()  # the one default, of every command


def recall(settings: Settings, reference: str) -> Status | None:
    """What the reference was served as last on this machine; not verified here."""
    status = read_file(_memory_file(settings, reference), Status)
    return status if status and status.path and status.digest else None


def remember(settings: Settings, reference: str, status: Status) -> None:
    """Keeps what the reference is served as for the next start; a cache that can't be written only costs that."""
    path = _memory_file(settings, reference)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_file(path, status)
    except OSError as error:
        log.warning("the next start will need the registry: %s", one_line(error))


def good_file(folder: Path, index: int) -> Path:
    """Where a server's processes tell each other what reference `index` is served as."""
    return folder / f"good-{index}.json"


def read_good(folder: Path, index: int) -> Good | None:
    """What reference `index` is served as in this server, where a worker got it to serve already."""
    return read_file(good_file(folder, index), Good)


def agree(folder: Path, index: int, status: Status, contract: str) -> bool:
    """Writes down what reference `index` is served as, unless this server serves it under another contract.

    The first worker that has something to serve decides on the contract; a restart of the server decides anew.
    """
    with open(folder / "good.lock", "a") as lock:  # released with the file
        fcntl.flock(lock, fcntl.LOCK_EX)
        good = read_good(folder, index)
        if good is not None and good.contract != contract:
            return False
        if good is None or good.status != status:
            write_file(good_file(folder, index), Good(status, contract))
        return True


def _memory_file(settings: Settings, reference: str) -> Path:
    key = hashlib.sha256(f"{_where()}\n{reference}".encode()).hexdigest()
    return cache_folder(settings) / "references" / f"{key}.json"


def _where() -> str:
    """Which registry is meant, told from the environment alone; a SQLite file may be named relative to this folder."""
    uri = os.environ.get("MLFLOW_REGISTRY_URI") or os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:"
    return f"{uri} {Path.cwd()}" if uri.startswith("sqlite:") else uri
