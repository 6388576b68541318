"""The follower: a process of its own that asks the registry which version is meant, and fetches it.

It is the only serving process that imports mlflow. What it finds out stands in a small file, which the workers
read; they load from the cache, by digest. The last verified answer for each reference is kept beside the
artifacts, so that a restart does not need the registry.
"""

from __future__ import annotations

import hashlib
import importlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec

from carla_mlflow.cli import one_line, quieten_mlflow
from serve.settings import Settings, settings_from_environment
from serve.slot import Slot

LOOK_S = 0.05
"""How often a worker looks at the follower's file while it has nothing to serve."""
DEADLINE_S = 5.0
"""For one question to the registry."""
STATUS_FILE = "POLICY_FOLLOW_STATUS"
"""The environment variable that names the follower's file."""

log = logging.getLogger("serve.follow")


class Status(msgspec.Struct, frozen=True):
    """What the follower knows. `refused` is the registry's own no: there is nothing to wait for."""

    path: str | None = None
    digest: str | None = None
    version: str | None = None
    stage: str | None = None
    registry: str = "ok"
    reason: str | None = None
    refused: bool = False


def write_status(path: Path, status: Status) -> None:
    beside = path.with_name(path.name + ".partial")
    beside.write_bytes(msgspec.json.encode(status))
    os.replace(beside, path)


def read_status(path: Path) -> Status | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Status)
    except FileNotFoundError:
        return None


def start_follower(status_file: Path, settings: Settings) -> subprocess.Popen[bytes]:
    """Starts the follower beside the server; it ends when its parent does."""
    environment = {**os.environ, **settings.to_environment(), STATUS_FILE: str(status_file)}
    return subprocess.Popen([sys.executable, "-m", "serve.follow"], env=environment)


def fill_from_folder(slot: Slot, settings: Settings) -> None:
    """Loads the folder that `model` names."""
    if not slot.load(Path(settings.model), settings.digest or None, settings):
        log.error("not ready: %s", slot.reason)
    elif not settings.digest:
        log.warning("serving an artifact that is not pinned: anyone who can write the folder decides what drives")


def fill_from_follower(slot: Slot, settings: Settings, status_file: Path) -> None:
    """Waits for the follower's answer and loads what it fetched."""
    slot.reason = f"waiting for the registry to resolve {settings.model}"
    # The follower is importing mlflow on another core; so long this one imports what a policy will probably need.
    importlib.import_module("torch")
    while True:
        status = read_status(status_file)
        if status is not None:
            slot.registry = status.registry
            if status.path and status.digest:
                if not slot.load(Path(status.path), status.digest, settings, status.stage):
                    log.error("not ready: %s", slot.reason)
                return
            if status.reason:
                slot.reason = status.reason
        time.sleep(LOOK_S)


def start_filling(slot: Slot, settings: Settings) -> None:
    """Fills the slot in a thread, so that the server is alive while it is not ready yet."""
    if settings.is_folder:
        target, arguments = fill_from_folder, (slot, settings)
    else:
        target, arguments = fill_from_follower, (slot, settings, Path(os.environ[STATUS_FILE]))  # type: ignore[assignment]
    threading.Thread(target=target, args=arguments, name="fill-slot", daemon=True).start()


@dataclass(frozen=True)
class _Memory:
    """The last verified answer for a reference, in the cache."""

    path: Path

    @classmethod
    def of(cls, cache: Path, registry: str, reference: str) -> _Memory:
        key = hashlib.sha256(f"{registry}\n{reference}".encode()).hexdigest()
        return cls(cache / "references" / f"{key}.json")

    def keep(self, status: Status) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_status(self.path, status)


def follow(settings: Settings, status_file: Path) -> int:
    """Resolves and fetches until it has succeeded once, or the registry has said no; returns an exit code."""
    from carla_mlflow.errors import ArtifactError, CarlaMlflowError, RegistryError, UnreachableError
    from registry.asking import registry_uri
    from registry.cache import default_cache, fetch_to_cache
    from registry.reference import parse_reference
    from registry.store import Store

    cache = Path(settings.cache_dir) if settings.cache_dir else default_cache()
    parent = os.getppid()
    while os.getppid() == parent:
        registry = registry_uri()
        try:
            store = Store(DEADLINE_S)
            version = store.resolve(parse_reference(settings.model))
            if settings.digest and version.digest != settings.digest:
                raise ArtifactError(f"{settings.model} is {version.digest}, but {settings.digest} was pinned")
            artifact = fetch_to_cache(store, version, cache)
            status = Status(str(artifact.path), artifact.digest, version.semver, version.stage)
            _Memory.of(cache, registry, settings.model).keep(status)
            write_status(status_file, status)
            return 0
        except UnreachableError as error:
            remembered = read_status(_Memory.of(cache, registry, settings.model).path)
            if remembered:
                log.warning("%s; serving the last verified answer for %s", one_line(error), settings.model)
                write_status(status_file, msgspec.structs.replace(remembered, registry="unreachable"))
                return 0
            log.warning("%s; trying again", one_line(error))
            write_status(status_file, Status(registry="unreachable", reason="the registry does not answer"))
        except (ArtifactError, OSError) as error:
            log.error("%s", one_line(error))
            write_status(status_file, Status(reason=one_line(error)))
        except (RegistryError, CarlaMlflowError) as error:
            write_status(status_file, Status(reason=one_line(error), refused=True))
            os.kill(parent, signal.SIGTERM)  # nothing will ever be served: the server says why and ends
            return 1
        time.sleep(settings.poll_s)
    return 0


def main() -> int:
    quieten_mlflow()
    logging.basicConfig(format="%(asctime)s follow %(levelname)s %(message)s", level=logging.INFO)
    return follow(settings_from_environment(os.environ), Path(os.environ[STATUS_FILE]))


if __name__ == "__main__":
    sys.exit(main())
