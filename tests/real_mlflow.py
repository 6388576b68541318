"""MLflow's own tracking server as a process: on SQLite, on PostgreSQL, or asking for a password."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpcore
from tests_support import free_port

BIN = Path(sys.executable).parent
ADMIN, PASSWORD = "admin", "correct-horse-battery"
# As MLflow's own basic_auth.ini, but a password is hashed once a minute: that takes longer than the rest of a request.
AUTH = """\
[mlflow]
default_permission = READ
database_uri = sqlite:///{folder}/basic_auth.db
auth_cache_ttl_seconds = 60
"""


@dataclass
class MlflowServer:
    """A running `mlflow server`, with all the processes that it starts.

    Attributes:
        uri: for MLFLOW_TRACKING_URI.
        environment: what a client needs beside it to be let in.
    """

    uri: str
    process: subprocess.Popen[bytes]
    log: Path
    environment: dict[str, str]

    @property
    def client(self) -> dict[str, str]:
        """The environment of a process that uses this server."""
        return {"MLFLOW_TRACKING_URI": self.uri, **self.environment}

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to every process of the server."""
        os.killpg(self.process.pid, number)

    def wait_ready(self, limit_s: float = 90) -> None:
        ends = time.monotonic() + limit_s
        while True:
            assert self.process.poll() is None, f"mlflow server ended:\n{self.log.read_text()}"
            try:
                if httpcore.request("GET", f"{self.uri}/health", extensions={"timeout": {"read": 5}}).status == 200:
                    return
            except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException):
                pass
            assert time.monotonic() < ends, f"mlflow server is not ready after {limit_s} s:\n{self.log.read_text()}"
            time.sleep(0.1)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.signal(signal.SIGKILL)  # also ends what SIGSTOP holds
        self.process.wait(20)


def run_mlflow_server(
    folder: Path,
    database: str | None = None,
    *,
    with_password: bool = False,
    port: int | None = None,
    environment: Mapping[str, str] | None = None,
    flags: Sequence[str] = (),
) -> MlflowServer:
    """Starts a server that also keeps the artifacts; whoever calls waits for it and stops it.

    Args:
        folder: where its files go; the same folder, database and port again is the same server again.
        database: as SQLAlchemy names it; a SQLite file in the folder when None.
        with_password: whether it lets in nobody but ADMIN with PASSWORD.
        port: on 127.0.0.1; a free one when None.
        environment: settings of MLflow's beside ours, such as those of webhooks.
        flags: of `mlflow server` beside ours.
    """
    port = port or free_port()
    command = [str(BIN / "mlflow"), "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", database or f"sqlite:///{folder}/mlflow.db"]
    command += ["--serve-artifacts", "--artifacts-destination", str(folder / "artifacts"), *flags]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    settings = {"PATH": f"{BIN}:{os.environ['PATH']}", "MLFLOW_DISABLE_TELEMETRY": "true"}
    settings["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # more processes, for its evaluations
    client: dict[str, str] = {}
    if with_password:
        command += ["--app-name", "basic-auth"]
        settings |= {"MLFLOW_AUTH_ADMIN_USERNAME": ADMIN, "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD}
        settings |= {"MLFLOW_FLASK_SERVER_SECRET_KEY": "for-tests", "MLFLOW_AUTH_CONFIG_PATH": str(folder / "auth.ini")}
        (folder / "auth.ini").write_text(AUTH.format(folder=folder))
        client = {"MLFLOW_TRACKING_USERNAME": ADMIN, "MLFLOW_TRACKING_PASSWORD": PASSWORD}
    log = folder / "mlflow-server.log"
    with open(log, "ab") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=output,
            cwd=folder,
            env={**inherited, **settings, **(environment or {})},
            start_new_session=True,
        )
    return MlflowServer(f"http://127.0.0.1:{port}", process, log, client)
