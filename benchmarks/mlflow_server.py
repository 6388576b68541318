"""A real `mlflow server` that proxies artifacts: on SQLite, on PostgreSQL, or with passwords."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpcore
from cryptography.fernet import Fernet

from benchmarks.free_port import free_port

BIN = Path(sys.executable).parent
START_S = 120.0
ADMIN, PASSWORD = "admin", "correct-horse-battery"
SETTINGS = {
    "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http,https",
    "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # would start seven more processes, which nothing here needs
}
# MLflow's own basic_auth.ini, but a password is hashed only once a minute, as that takes longer than all the rest.
AUTH = """\
[mlflow]
default_permission = READ
database_uri = sqlite:///{home}/basic_auth.db
auth_cache_ttl_seconds = 60
"""


class MlflowServer:
    """A server on this machine, which can be stopped and continued, killed, and started again on the same port.

    Attributes:
        uri: for MLFLOW_TRACKING_URI.
        client: environment variables for a process that uses this server.
        home: the folder of its files.
    """

    def __init__(self, home: Path, store: str | None = None, *, with_password: bool = False) -> None:
        """Starts it.

        Args:
            home: the folder for its artifacts, its log, and its database unless `store` names one.
            store: the database as an SQLAlchemy URL, such as postgresql+psycopg2://….
            with_password: whether only ADMIN with PASSWORD has access.
        """
        self.home = home
        port = str(free_port())
        self.uri = f"http://127.0.0.1:{port}"
        self.client = {"MLFLOW_TRACKING_URI": self.uri}
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
        secret = {"MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": Fernet.generate_key().decode()}
        self._environment = {**inherited, **SETTINGS, **secret, "PATH": f"{BIN}:{os.environ['PATH']}"}
        self._command = [str(BIN / "mlflow"), "server", "--host", "127.0.0.1", "--port", port, "--workers", "1"]
        self._command += ["--backend-store-uri", store or f"sqlite:///{home}/mlflow.db"]
        self._command += ["--artifacts-destination", str(home / "artifacts")]
        if with_password:
            self._ask_for_a_password()
        self.start()

    def _ask_for_a_password(self) -> None:
        (self.home / "auth.ini").write_text(AUTH.format(home=self.home))
        self._command += ["--app-name", "basic-auth"]
        self._environment |= {"MLFLOW_AUTH_ADMIN_USERNAME": ADMIN, "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD}
        self._environment |= {"MLFLOW_FLASK_SERVER_SECRET_KEY": "for-tests"}
        self._environment |= {"MLFLOW_AUTH_CONFIG_PATH": str(self.home / "auth.ini")}
        self.client |= {"MLFLOW_TRACKING_USERNAME": ADMIN, "MLFLOW_TRACKING_PASSWORD": PASSWORD}

    def start(self) -> None:
        """Starts it, also after it was killed, and waits until it answers."""
        log = self.home / "mlflow-server.log"
        with open(log, "ab") as output:
            self.process = subprocess.Popen(
                self._command,
                stdout=output,
                stderr=output,
                cwd=self.home,
                env=self._environment,
                start_new_session=True,
            )
        ends = time.monotonic() + START_S
        while time.monotonic() < ends and self.process.poll() is None:
            with contextlib.suppress(httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException):
                if httpcore.request("GET", f"{self.uri}/health", extensions={"timeout": {"read": 5}}).status == 200:
                    return
            time.sleep(0.1)
        raise TimeoutError(f"mlflow server does not answer:\n{log.read_text()[-6000:]}")

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to all of its processes, such as SIGSTOP, SIGCONT or SIGKILL."""
        os.killpg(self.process.pid, number)

    def revive(self) -> None:
        """Continues it after SIGSTOP, or starts it after it was killed."""
        if self.process.poll() is None:
            self.signal(signal.SIGCONT)
        else:
            self.start()

    def kill(self) -> None:
        """Sends SIGKILL, which also ends a stopped server."""
        with contextlib.suppress(ProcessLookupError):
            self.signal(signal.SIGKILL)
        self.process.wait()
