"""What the tests share that is no fixture: commands and servers run as a user would run them."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import httpcore
import mlflow
import msgspec
import pytest
from patience import PATIENCE_S

from carla_mlflow import open_artifact, write_artifact
from carla_mlflow.artifact.artifact import seal

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "v0.1.0"


@dataclass
class Finished:
    code: int
    out: str
    err: str


def run_command(*arguments: str, timeout: float = PATIENCE_S, env: dict[str, str] | None = None) -> Finished:
    """Runs one of our commands as a user would."""
    program, *rest = arguments
    path = Path(sys.executable).parent / program
    done = subprocess.run(
        [str(path), *rest], capture_output=True, text=True, timeout=timeout, env={**os.environ, **(env or {})}
    )
    return Finished(done.returncode, done.stdout, done.stderr)


COMMANDS = {
    "carla-export": "training_export.export_command",
    "carla-registry": "registry.__main__",
    "score": "serve.score.command",
    "serve.bake": "serve.bake",
    "testing": "carla_mlflow.testing.__main__",
    "training_export": "training_export.__main__",
}
"""A command → the module with its `main`; the last four are `python -m serve score`, `python -m serve.bake`,
`python -m carla_mlflow.testing` and `python -m training_export`."""


def command_here(program: str, *arguments: str, env: dict[str, str] | None = None) -> Finished:
    """Runs one of COMMANDS in this process: torch and MLflow, whose import is most of what a process costs, are here.

    For what a command says and does. What a process may do besides is another test's: the noise of its imports, what it
    asks on a terminal, how it is ended.
    """
    main = importlib.import_module(COMMANDS[program]).main
    leave_experiment()
    out, err, before, path = io.StringIO(), io.StringIO(), dict(os.environ), [*sys.path]
    on_ctrl_c = signal.getsignal(signal.SIGINT)  # a command that is interrupted changes it for its process
    os.environ.update(env or {})
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # other libraries' own, which are no errors in a process either
            code = main(arguments)
    except SystemExit as ended:  # argparse's
        code = int(ended.code or 0)
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, on_ctrl_c)
        sys.path[:] = path  # a card's own modules are importable until the process ends
        os.environ.update(before)
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
    return Finished(code, out.getvalue(), err.getvalue())


def leave_experiment() -> None:
    """Has MLflow forget which experiment was used last in this process: that of another test's store."""
    os.environ.pop("MLFLOW_EXPERIMENT_ID", None)  # MLflow sets it by itself
    mlflow.tracking.fluent._active_experiment_id = None


def registry_here(*arguments: str, env: dict[str, str] | None = None) -> Finished:
    """Runs carla-registry by `command_here`."""
    return command_here("carla-registry", *arguments, env=env)


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)


@dataclass
class Server:
    """A running carla-serve and one kept-alive connection to it."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path
    pool: httpcore.ConnectionPool = field(default_factory=lambda: httpcore.ConnectionPool(max_connections=1))

    def get(self, path: str) -> Answer:
        return self.send("GET", path)

    def post(self, path: str, document: Any, media_type: str = "application/json", **headers: str) -> Answer:
        body = document if isinstance(document, bytes) else msgspec.json.encode(document)
        return self.send("POST", path, body, {"Content-Type": media_type, **headers})

    def send(self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> Answer:
        given = {"Host": "localhost", **(headers or {})}
        answer = self.pool.request(method, self.url + path, headers=list(given.items()), content=body)
        return Answer(answer.status, {k.decode().lower(): v.decode() for k, v in answer.headers}, answer.content)

    def wait_ready(self, limit_s: float = PATIENCE_S) -> None:
        ends = time.monotonic() + limit_s
        while time.monotonic() < ends:
            assert self.process.poll() is None, self.log.read_text()
            try:
                if self.get("/readyz").status == 200:
                    return
            except (httpcore.NetworkError, httpcore.ProtocolError):
                pass
            time.sleep(0.05)
        raise AssertionError(f"not ready after {limit_s} s: {self.get('/readyz').body!r}\n{self.log.read_text()}")

    def wait_alive(self, limit_s: float = PATIENCE_S) -> None:
        ends = time.monotonic() + limit_s
        while time.monotonic() < ends:
            try:
                if self.get("/healthz").status == 200:
                    return
            except (httpcore.NetworkError, httpcore.ProtocolError):
                time.sleep(0.05)
        raise AssertionError(self.log.read_text())

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(PATIENCE_S)
        finally:
            self.pool.close()


def own_cache(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """A user's cache folder below `folder`, found there by default: no setting of ours is made."""
    for name in [name for name in os.environ if name.startswith("POLICY_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))


def missing(what: str, package: str) -> NoReturn:
    """Skips a test for want of a program, and says how to get it; where CI is set, fails it."""
    text = f"{what} is not installed: apt-get install {package}"
    if os.environ.get("CI"):
        pytest.fail(text)
    pytest.skip(text)


def example_as(folder: Path, version: str) -> Path:
    """The example policy again, under another version: an artifact of its own with its own digest."""
    artifact = open_artifact(EXAMPLE)
    card = msgspec.structs.replace(artifact.card, version=version)
    files = {name: data for name, data in artifact.files.items() if name in card.files}
    return write_artifact(folder / version, seal(card, files)).path
