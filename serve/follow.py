"""The follower: a process of its own that asks the registry which version is meant, and fetches it.

It is the only serving process that imports mlflow. What it finds out stands in a small file, which the workers
read; they load from the cache, by digest. The last verified answer for each reference is kept beside the
artifacts, so that a restart does not need the registry.
"""

from __future__ import annotations

import hashlib
import logging
import os
import signal
import sys
import time
from pathlib import Path

import msgspec

from carla_mlflow.artifact import Artifact, open_artifact
from carla_mlflow.cli import one_line, prepare_mlflow
from carla_mlflow.errors import ArtifactError, IntegrityError, NotFoundError, RefusedError
from registry.cache import default_cache, fetch_to_cache
from registry.reference import parse_reference
from serve.settings import Settings, settings_from_environment
from serve.status import SERVER_PID, STATUS_FILE, Status, read_status, write_status

DEADLINE_S = 5.0
"""For one question to the registry."""
LONGEST_WAIT_S = 60.0
"""Between two looks at a version that was refused."""

log = logging.getLogger("serve.follow")


class Follower:
    """Resolves and fetches one reference for one server."""

    def __init__(self, settings: Settings, status_file: Path) -> None:
        self._settings = settings
        self._status_file = status_file
        self._cache = Path(settings.cache_dir) if settings.cache_dir else default_cache()
        key = hashlib.sha256(f"{_where()}\n{settings.model}".encode()).hexdigest()
        self._memory = self._cache / "references" / f"{key}.json"
        self._wait_s = settings.poll_s

    def look(self) -> bool:
        """Asks once and tells the workers; returns whether there is nothing more to do."""
        status: Status | None
        try:
            status = (self._remembered() if self._is_immutable() else None) or self._ask()
        except (NotFoundError, RefusedError) as error:
            status = self._remembered("the registry no longer knows it")
            if status is None:
                self._tell(Status(reason="the registry has no such policy", refusal=one_line(error)))
                return True
        except ArtifactError as error:
            log.error("%s is refused: %s", self._settings.model, one_line(error))
            self._tell(Status(reason=one_line(error)))
            self._wait_s = min(self._wait_s * 2, LONGEST_WAIT_S)  # the same bytes will be refused again
            return False
        except Exception as error:  # whatever a registry that is down, full or lying makes MLflow raise
            log.warning("%s: %s", self._settings.model, one_line(error))
            status = self._remembered("the registry does not answer", "unreachable")
            if status is None:
                self._tell(Status(registry="unreachable", reason="the registry does not answer"))
                return False
        self._tell(status)
        return True

    def wait(self) -> None:
        time.sleep(self._wait_s)

    def _ask(self) -> Status:
        from registry.store import Store

        store = Store(DEADLINE_S)
        version = store.resolve(parse_reference(self._settings.model))
        self._check_pin(version.digest)
        artifact = fetch_to_cache(store, version, self._cache)
        status = Status(str(artifact.path), artifact.digest, version.semver, version.stage)
        self._memory.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_status(self._memory, status)
        return status

    def _is_immutable(self) -> bool:
        """Whether the reference can only ever mean one artifact, so that nobody needs to be asked again."""
        return bool(self._settings.digest) or parse_reference(self._settings.model).kind == "version"

    def _remembered(self, warning: str | None = None, registry: str = "ok") -> Status | None:
        """The last verified answer for the reference, verified again."""
        status = read_status(self._memory)
        if status is None or status.path is None:
            return None
        try:
            self._check_pin(status.digest or "")
            artifact: Artifact = open_artifact(Path(status.path), status.digest)
        except (ArtifactError, OSError) as error:
            log.error("the cached copy can't be used: %s", one_line(error))
            return None
        if warning is None:
            return status
        log.warning("serving the last verified answer for %s: %s", self._settings.model, artifact.card.version)
        return msgspec.structs.replace(
            status, registry=registry, warning=f"{warning}; serving the last verified version"
        )

    def _check_pin(self, digest: str) -> None:
        if self._settings.digest and digest != self._settings.digest:
            raise IntegrityError(f"{self._settings.model} is {digest}, but {self._settings.digest} was pinned")

    def _tell(self, status: Status) -> None:
        write_status(self._status_file, status)


def _where() -> str:
    """Which registry is meant, told from the environment alone; a SQLite file may be named relative to this folder."""
    uri = os.environ.get("MLFLOW_REGISTRY_URI") or os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:"
    return f"{uri} {Path.cwd()}" if uri.startswith("sqlite:") else uri


def main() -> int:
    prepare_mlflow()
    settings = settings_from_environment(os.environ)
    logging.basicConfig(format="%(asctime)s %(name)s %(levelname)s %(message)s", level=settings.log_level.upper())
    server = int(os.environ[SERVER_PID])
    status_file = Path(os.environ[STATUS_FILE])
    follower = Follower(settings, status_file)
    while os.getppid() == server:
        if follower.look():
            status = read_status(status_file)
            if status and status.refusal and os.getppid() == server:
                os.kill(server, signal.SIGTERM)  # nothing will ever be served: the server says why and ends
            return 0
        follower.wait()
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the server's to answer; it ends this process
    sys.exit(main())
