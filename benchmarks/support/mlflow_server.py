"""A real `mlflow server` that proxies artifacts: on SQLite, on PostgreSQL, or with passwords."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from cryptography.fernet import Fernet

from benchmarks.support.free_port import free_port
from benchmarks.support.requests import get_request
from benchmarks.support.server import BIN, Server

IN_ONE_PROCESS = Path(__file__).with_name("mlflow_in_one_process.py")
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


class MlflowServer(Server):
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
        self.home, port = home, free_port()
        self.uri = f"http://127.0.0.1:{port}"
        self.client = {"MLFLOW_TRACKING_URI": self.uri}
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
        secret = {"MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": Fernet.generate_key().decode()}
        environment = {**inherited, **SETTINGS, **secret, "PATH": f"{BIN}:{os.environ['PATH']}"}
        command = [sys.executable, "-P", str(IN_ONE_PROCESS), "server"]  # -P: imports nothing that lies beside it
        command += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
        command += ["--backend-store-uri", store or f"sqlite:///{home}/mlflow.db"]
        command += ["--artifacts-destination", str(home / "artifacts")]
        if with_password:
            command += ["--app-name", "basic-auth"]
            environment |= self._password()
        log = home / "mlflow-server.log"
        super().__init__(command, port, get_request("/health"), environment=environment, folder=home, log=log)
        self.start()

    def _password(self) -> dict[str, str]:
        """Sets a password; returns the environment variables by which the server learns of it."""
        settings = self.home / "auth.ini"
        settings.write_text(AUTH.format(home=self.home))
        self.client |= {"MLFLOW_TRACKING_USERNAME": ADMIN, "MLFLOW_TRACKING_PASSWORD": PASSWORD}
        return {
            "MLFLOW_AUTH_ADMIN_USERNAME": ADMIN,
            "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD,
            "MLFLOW_FLASK_SERVER_SECRET_KEY": "for-tests",
            "MLFLOW_AUTH_CONFIG_PATH": str(settings),
        }

    def revive(self) -> None:
        """Continues it after SIGSTOP, or starts it after it was killed."""
        if self.process.poll() is None:
            self.signal(signal.SIGCONT)
        else:
            self.start()
