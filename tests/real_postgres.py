"""A PostgreSQL of the tests' own: Debian's binaries, data in a temporary folder, reached by a unix socket."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import psycopg2
from patience import PATIENCE_S
from tests_support import missing

UNSAFE_BUT_FAST = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=50")


@dataclass
class Postgres:
    """A running cluster.

    Attributes:
        folder: holds the socket, the data and the log.
    """

    folder: Path
    process: subprocess.Popen[bytes]
    _made: int = field(default=0)

    def connect(self, database: str = "postgres") -> Any:
        return psycopg2.connect(host=str(self.folder), user="postgres", dbname=database)

    def new_database(self) -> str:
        """Creates an empty database and returns its URI for SQLAlchemy."""
        self._made += 1
        name = f"mlflow_{self._made}"
        with contextlib.closing(self.connect()) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(f"CREATE DATABASE {name}")
        return f"postgresql+psycopg2://postgres@/{name}?host={self.folder}"

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to every process of the cluster: each connection has one, in a session of its own."""
        leader = psutil.Process(self.process.pid)
        for process in (leader, *leader.children(recursive=True)):
            process.send_signal(number)

    def wait_ready(self, limit_s: float = PATIENCE_S) -> None:
        ends = time.monotonic() + limit_s
        while True:
            try:
                self.connect().close()
                return
            except psycopg2.OperationalError:
                log = (self.folder / "log").read_text()
                assert self.process.poll() is None, f"postgres ended:\n{log}"
                assert time.monotonic() < ends, f"postgres is not ready after {limit_s} s:\n{log}"
                time.sleep(0.05)


@contextlib.contextmanager
def running_postgres() -> Iterator[Postgres]:
    """A cluster, removed at the end."""
    binaries = _binaries()
    # Not pytest's folder: only its owner may enter that, and a socket's path is at most 107 bytes long.
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    owner = _owner()
    if owner:
        shutil.chown(folder, owner["user"], owner["group"])
    as_owner: dict[str, Any] = {**owner, "cwd": folder, "stdin": subprocess.DEVNULL}
    command = [str(binaries / "initdb"), "--pgdata", "data", "--username", "postgres", "--auth", "trust"]
    command += ["--encoding", "UTF8", "--no-locale", "--no-sync"]
    made = subprocess.run(command, capture_output=True, text=True, check=False, **as_owner)
    assert made.returncode == 0, f"initdb failed:\n{made.stderr}"
    settings = [
        f"--{setting}" for setting in (*UNSAFE_BUT_FAST, "listen_addresses=", f"unix_socket_directories={folder}")
    ]
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(
            [str(binaries / "postgres"), "-D", "data", *settings],
            stdout=log,
            stderr=log,
            start_new_session=True,
            **as_owner,
        )
    try:
        cluster = Postgres(folder, process)
        cluster.wait_ready()
        yield cluster
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGQUIT)  # at once: nobody will read the data again
        process.wait(PATIENCE_S)
        shutil.rmtree(folder)


def _binaries() -> Path:
    """Where initdb and postgres lie: Debian keeps them off the PATH."""
    on_path = shutil.which("initdb")
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if on_path:
        return Path(on_path).resolve().parent
    return versions[-1].parent if versions else missing("PostgreSQL", "postgresql")


def _owner() -> dict[str, Any]:
    """Whom the cluster runs as, for subprocess: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            account = pwd.getpwnam(name)
            return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    raise AssertionError("there is no unprivileged user to run PostgreSQL as")
