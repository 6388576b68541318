"""Asking MLflow's registry: where, and for how long."""

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
from urllib.parse import urlsplit, urlunsplit

import mlflow
from mlflow.exceptions import MlflowException

from carla_mlflow.errors import RegistryError, UnreachableError
from carla_mlflow.flavor.translate_errors import translate

P = ParamSpec("P")
R = TypeVar("R")
ELSEWHERE = "have it removed, or let TMPDIR name another folder"


def registry_uri() -> str:
    """MLFLOW_REGISTRY_URI, else MLFLOW_TRACKING_URI, else MLflow's default, as it may be shown.

    A SQLite file by its whole path; anything else without the user and password that it may hold.
    """
    uri = str(mlflow.get_registry_uri() or mlflow.get_tracking_uri())
    file = uri.removeprefix("sqlite:///")
    if file == uri:
        return without_password(uri)
    return uri if file.startswith("/") else f"sqlite:///{Path(file).absolute()}"


def _database_errors() -> tuple[type[Exception], ...]:
    """What a database raises that MLflow asks directly. Where there is no SQLAlchemy, it asks none."""
    try:
        from sqlalchemy.exc import SQLAlchemyError
    except ImportError:
        return ()
    return (SQLAlchemyError,)


def without_password(uri: str) -> str:
    """The URI as it may be shown in messages, tags and the journal."""
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])) if "@" in parts.netloc else uri


def ask(uri: str, deadline_s: float, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Calls MLflow, in a thread that is left behind when the deadline is over.

    Raises:
        UnreachableError: no answer in time. MLflow itself would retry a database for minutes.
        RegistryError: the answer is no.
    """
    started = time.monotonic()
    outcome: Future[R] = Future()

    def run() -> None:
        try:
            outcome.set_result(function(*args, **kwargs))
        except BaseException as error:  # handed to the caller
            outcome.set_exception(error)

    threading.Thread(target=run, name="registry", daemon=True).start()
    try:
        return outcome.result(deadline_s)
    except TimeoutError as error:
        raise UnreachableError(f"{uri}: no answer (tried for {time.monotonic() - started:.0f} s)") from error
    except MlflowException as error:
        raise translate(error, uri, time.monotonic() - started) from error
    except _database_errors() as error:  # a database that is no registry, or half of one, asked directly
        raise UnreachableError(f"{uri}: {str(error).splitlines()[0]}") from error


@contextlib.contextmanager
def one_at_a_time(uri: str) -> Iterator[None]:
    """Held while MLflow looks whether its tables are there: two processes that create the same file spoil it."""
    if not uri.startswith("sqlite:"):
        yield
        return
    # A name of each user's own: the file of another could not be opened, and its database not written either.
    name = f"carla-mlflow-{os.geteuid()}-{hashlib.sha256(uri.encode()).hexdigest()[:16]}.lock"
    with open(_own_file(Path(tempfile.gettempdir()) / name)) as lock:  # released with the file
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _own_file(path: Path) -> int:
    """Opens a file that no other user can: who could, could hold its lock for ever.

    Raises:
        RegistryError: it can't be had, or is somebody else's.
    """
    try:  # no link is followed, and no pipe waited for
        opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    except OSError as error:
        raise RegistryError(f"{path}: {error.strerror}; {ELSEWHERE}") from error
    if os.fstat(opened).st_uid == os.geteuid():
        return opened
    os.close(opened)
    raise RegistryError(f"{path}: belongs to another user; {ELSEWHERE}")
