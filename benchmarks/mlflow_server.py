"""A real `mlflow server`, on SQLite unless told otherwise, artifacts proxied by it: for benchmarks and tests."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpcore
from cryptography.fernet import Fernet

WEBHOOKS = {"MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http,https", "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true"}


class MlflowServer:
    """One server on this machine. It may be stopped and continued, killed, and started again on the same port."""

    def __init__(self, home: Path, store: str | None = None) -> None:
        """Starts it; `home` holds its artifacts, and its database unless `store` names one (postgresql+psycopg2://…)."""
        self.home = home
        self.store = store or f"sqlite:///{home}/mlflow.db"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self._environment = {
            **os.environ,
            **WEBHOOKS,
            "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": Fernet.generate_key().decode(),
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # seven processes more, which nothing here asks for
        }
        for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
            self._environment.pop(name, None)
        self.start()

    def start(self) -> None:
        """Starts it, again, and waits until it answers."""
        command = [str(Path(sys.executable).parent / "mlflow"), "server", "--host", "127.0.0.1", "--workers", "1"]
        command += ["--port", str(self.port), "--backend-store-uri", self.store]
        command += ["--artifacts-destination", str(self.home / "artifacts")]
        with open(self.home / "mlflow.log", "ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=self.home, env=self._environment, start_new_session=True
            )
        ends = time.monotonic() + 120
        while time.monotonic() < ends:
            with contextlib.suppress(httpcore.NetworkError, httpcore.ProtocolError):
                if httpcore.request("GET", f"{self.url}/health").status == 200:
                    return
            time.sleep(0.1)
        raise TimeoutError(f"mlflow server does not answer; see {self.home}/mlflow.log")

    def signal(self, number: signal.Signals) -> None:
        """To the server and its worker: SIGSTOP, SIGCONT, SIGKILL."""
        os.killpg(self.process.pid, number)

    def revive(self) -> None:
        """Continues it when it was stopped, starts it when it was killed."""
        if self.process.poll() is None:
            self.signal(signal.SIGCONT)
        else:
            self.start()

    def kill(self) -> None:
        """Ends it the hard way."""
        with contextlib.suppress(ProcessLookupError):
            self.signal(signal.SIGKILL)
        self.process.wait()
