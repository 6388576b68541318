"""Calls of MLflow's registry: its URI, the deadline, and how errors are translated."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import ParamSpec, TypeVar

import mlflow
from mlflow.exceptions import MlflowException

from carla_mlflow.errors import RegistryError, UnreachableError
from carla_mlflow.flavor.database import SQLITE, database_errors, say_database, without_password
from carla_mlflow.flavor.translate_errors import no_answer, translate

P = ParamSpec("P")
R = TypeVar("R")
ELSEWHERE = "have it removed, or let TMPDIR name another folder"


def registry_uri() -> str:
    """MLFLOW_REGISTRY_URI, else MLFLOW_TRACKING_URI, else MLflow's default, in a form that may be shown.

    A SQLite file has its absolute path; any other URI is without user and password.
    """
    uri = str(mlflow.get_registry_uri() or mlflow.get_tracking_uri())
    path = uri.removeprefix(SQLITE)
    if path == uri:
        return without_password(uri)
    return uri if path.startswith("/") else f"{SQLITE}{Path(path).absolute()}"


def call_with_deadline(uri: str, deadline_s: float, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Calls MLflow in a thread, which is abandoned at the deadline, as MLflow itself retries a database for minutes.

    Raises:
        UnreachableError: no answer in time, or a database that can't be used.
        RegistryError: the registry refused the call.
    """
    started = time.monotonic()
    outcome: Future[R] = Future()

    def run() -> None:
        try:
            outcome.set_result(function(*args, **kwargs))
        except BaseException as error:  # raised again in the caller
            outcome.set_exception(error)

    threading.Thread(target=run, name="registry", daemon=True).start()
    try:
        return outcome.result(deadline_s)
    except TimeoutError as error:
        raise no_answer(uri, time.monotonic() - started) from error
    except MlflowException as error:
        raise translate(error, uri, time.monotonic() - started) from error
    except database_errors() as error:  # a database without all of a registry's tables
        raise UnreachableError(say_database(uri, error)) from error


@contextlib.contextmanager
def one_at_a_time(uri: str) -> Iterator[None]:
    """A lock, held while MLflow creates missing tables: two processes that create the same SQLite file corrupt it."""
    if not uri.startswith("sqlite:"):
        yield
        return
    # One lock per user: another user's lock file can't be opened, and another user can't write this database either.
    name = f"carla-mlflow-{os.geteuid()}-{hashlib.sha256(uri.encode()).hexdigest()[:16]}.lock"
    with open(_own_file(Path(tempfile.gettempdir()) / name)) as lock:  # released with the file
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _own_file(path: Path) -> int:
    """Opens a file that no other user can open, as another user could hold its lock forever.

    Raises:
        RegistryError: it can't be opened, or belongs to another user.
    """
    try:  # does not follow a link, and does not wait for a pipe
        opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    except OSError as error:
        raise RegistryError(f"{path}: {error.strerror}; {ELSEWHERE}") from error
    if os.fstat(opened).st_uid == os.geteuid():
        return opened
    os.close(opened)
    raise RegistryError(f"{path}: belongs to another user; {ELSEWHERE}")
