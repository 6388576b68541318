"""Asking MLflow: where, for how long, and what its exceptions mean."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import ParamSpec, TypeVar

# A command should not wait for minutes: MLflow's defaults are 7 retries of 120 s each.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")

import mlflow
from mlflow.exceptions import MlflowException, RestException

from carla_mlflow.errors import NotFoundError, RefusedError, RegistryError

P = ParamSpec("P")
R = TypeVar("R")


def registry_uri() -> str:
    """MLFLOW_REGISTRY_URI, else MLFLOW_TRACKING_URI, else MLflow's default."""
    return str(mlflow.get_registry_uri() or mlflow.get_tracking_uri())


def within(seconds: float, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Calls a function in a thread of its own; raises TimeoutError, and leaves it behind, when it takes longer."""
    outcome: Future[R] = Future()

    def run() -> None:
        try:
            outcome.set_result(function(*args, **kwargs))
        except BaseException as error:  # handed to the caller
            outcome.set_exception(error)

    threading.Thread(target=run, name="registry", daemon=True).start()
    return outcome.result(seconds)


def is_silence(error: MlflowException) -> bool:
    """Whether nobody answered, as opposed to an answer that says no."""
    if isinstance(error, RestException):
        return False
    text = str(error)
    return any(sign in text for sign in ("API request", "Max retries", "OperationalError"))


def registry_error(error: MlflowException) -> RegistryError:
    text = str(error.message).splitlines()[0]
    if error.error_code == "RESOURCE_DOES_NOT_EXIST":
        return NotFoundError(text)
    if error.error_code in {"RESOURCE_ALREADY_EXISTS", "INVALID_PARAMETER_VALUE", "PERMISSION_DENIED"}:
        return RefusedError(text)
    return RegistryError(text)
